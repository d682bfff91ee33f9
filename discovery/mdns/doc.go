// Package mdns announces and browses services by multicast DNS (RFC 6762) and
// DNS-based service discovery (RFC 6763).
//
//	d, err := mdns.New()
//	…
//	err = d.Announce(ctx, discovery.Service{…})
//	events, err := d.Browse(ctx)
//
// # On the wire
//
// A replica is an instance of the service type _budgie._tcp.local. Its label is
// the container's name, a hyphen, and the first 12 characters of the replica's
// id. Instances of any label that ends in the short id are accepted.
//
// The SRV record has the port of the peer endpoint (0 without one) and names a
// host that is this process alone, never the machine's own name, which is
// avahi's to defend. Its A and AAAA records are the addresses of the interface
// on which the packet goes out. TXT is that of [discovery.EncodeTXT]. All have
// the TTL of [WithTTL].
//
// A name is probed for three times, 250 ms apart, and then announced, twice
// within a second; a goodbye is said once, and receivers remove the service a
// second later. The first probe is sent at once, without the random delay of RFC
// 6762 section 8.1, and browsers of this package believe what it proposes for two
// seconds, so that a service is there for them in the moment that it begins.
//
// If another host has the name, or gets it in simultaneous probes, the instance
// is renamed: web-2-0123456789ab. The name of the container, which is in the TXT
// record, never changes because of the network. Processes of one machine do not
// take names from each other, nor does a process from itself over two interfaces
// on one network: that the same replica is announced twice on one machine is
// counted in [Stats] and logged. Whoever is on the network can claim names
// without end, and then has instances renamed, every five seconds at most: as
// with all of multicast DNS, who they are is not a matter of their names.
//
// Browsers ask after at most 120 ms, then after 1, 2, 4 … seconds up to an hour, and
// so again where something that was there expires without a goodbye: after a network
// was cut, its two sides find each other in about as much time as went by since. They
// list what they know, do not ask what another has just asked, and ask again for
// what they have not heard of for 80 % of its TTL. No record is sent more than
// once a second. Who asks for a unicast answer gets one, unless a quarter of the
// TTL is over since the last one to all; that a name has no records of a type is
// said by NSEC. A machine that dies without a goodbye expires after the TTL; who
// must know earlier has a connection to the peer.
//
// Queries leave from port 5353, so that answers are multicast and every browser
// learns from them. The sockets share the port with avahi, mDNSResponder and
// other processes of Budgie. On Linux the IPv4 socket is bound to the group's
// address, and takes no unicast packet from the others.
//
// What arrives is not believed any further than that it is there: records that
// are not Budgie's, or break a rule, are counted and left out; so are addresses
// of this machine, loopback included, in packets that do not come from one of
// them (the kernel is what keeps others from sending such); the packets of
// one source, the instances of one source, all instances, and the addresses of
// a host are limited; packets are at most 9000 bytes.
//
// # Interfaces
//
// All interfaces that lead to other machines are used, and they are followed: on
// Linux by rtnetlink(7), at once, elsewhere by a look every two seconds. One that
// comes up, gets its first address, or has its cable put in again is announced
// and browsed on; a changed address is announced at once; what was heard on one
// that is gone is believed for five more seconds. A Discoverer may begin without
// any. Loopback is used while there is no other, so that the processes of one
// machine find each other.
//
// Bridges of containers, their ports, tunnels and the like are left out by their
// names, and on Linux bridges of any name whose ports lead to nothing else, and
// interfaces that are themselves ports of a bridge or parts of a bond.
//
// # Why not pion/mdns
//
// Package github.com/pion/mdns/v2 (v2.2.2) speaks the same protocol, and the
// tests of this package hold both against each other. At run time it is not
// used. All of it is behind one type, Conn, which owns the read loop of its
// sockets, so that a part of it cannot be had without the others, and a Conn
// beside this package would answer every question a second time. Part by part:
//
//   - Sockets: NewServer opens further ones on ephemeral ports and asks from
//     those, so that answers come by unicast and a firewall that opens 5353
//     stops them. Its buffer is the interface's MTU, not 9000 bytes; its
//     interfaces and addresses stay those of the start.
//   - Parsing: it reads a packet whole or not at all, and one foreign record
//     with a dot inside a label hides all others. Here the same parser,
//     golang.org/x/net/dns/dnsmessage, goes record by record.
//   - Answering: no announcement, no goodbye, no rate limit, no known answers,
//     no cache-flush bit on answers, one address, one packet per service; a
//     query with as many known answers as questions is taken for a response.
//     The TTL of PTR records is fixed at 75 minutes.
//   - Browsing: a query every second without known answers; events have no
//     removal and no expiry and pair records of different hosts. Its cache is
//     sound and does most of what this one does, but is not exported.
package mdns
