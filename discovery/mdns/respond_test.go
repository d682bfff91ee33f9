package mdns

import (
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// asker is somebody on a bus who asks and reads whole packets.
type asker struct {
	t *testing.T
	*port
}

func (a asker) ask(p packet) {
	a.t.Helper()
	data, err := p.pack()
	if err != nil {
		a.t.Fatal(err)
	}
	for len(a.in) > 0 {
		<-a.in
	}
	if err := a.send(outgoing{link: busLink, data: data}); err != nil {
		a.t.Fatal(err)
	}
	<-a.in // one's own
}

// answer returns the next packet, nil if none comes for two seconds.
func (a asker) answer() (msg *dnsmessage.Message, multicast bool) {
	a.t.Helper()
	select {
	case in := <-a.in:
		msg = &dnsmessage.Message{}
		if err := msg.Unpack(in.data); err != nil {
			a.t.Fatal(err)
		}
		return msg, in.multicast
	case <-time.After(2 * time.Second):
		return nil, false
	}
}

// RFC 6762 section 5.4: who asks for it gets a unicast answer, unless it is time
// to tell everybody.
func TestUnicastAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bus{}
		a, _ := b.node(t, "192.0.2.1")
		svc := replica(1, "web")
		announce(t, a, svc)
		time.Sleep(10 * time.Second)
		who, other := asker{t, b.port("192.0.2.9")}, asker{t, b.port("192.0.2.8")}
		for _, c := range []struct {
			query     packet
			multicast bool
			wait      time.Duration
		}{
			{packet{unicast: true, questions: []question{{serviceName, typePTR}}}, false, 0},
			{packet{questions: []question{{serviceName, typePTR}}}, true, 0},
			{packet{unicast: true, questions: []question{{instanceName(svc), typeSRV}}}, false, 0},
			{packet{unicast: true, questions: []question{{instanceName(svc), typeSRV}}}, true, DefaultTTL/4 + time.Second},
			// A probe is answered where all can hear it.
			{packet{
				unicast: true, questions: []question{{instanceName(svc), typeANY}},
				proposed: []record{{name: instanceName(svc), typ: typeSRV, ttl: 120, target: "x.local."}},
			}, true, 0},
		} {
			time.Sleep(c.wait)
			for len(other.in) > 0 {
				<-other.in
			}
			who.ask(c.query)
			msg, multicast := who.answer()
			if msg == nil || !msg.Response || len(msg.Answers) == 0 {
				t.Fatalf("%+v is answered by %+v", c.query, msg)
			}
			if multicast != c.multicast {
				t.Errorf("%+v is answered by multicast: %t", c.query, multicast)
			}
			// The bus hands a packet to one port after the other.
			synctest.Wait()
			if <-other.in; (len(other.in) > 0) != c.multicast {
				t.Errorf("the others got %d packets besides %+v", len(other.in), c.query)
			}
		}
	})
}

// RFC 6762 section 6.1: that a name has no records of a type is said.
func TestTypesThatAreNotThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bus{}
		a, _ := b.node(t, "192.0.2.1")
		svc := replica(1, "web")
		announce(t, a, svc)
		time.Sleep(10 * time.Second)
		var host string
		for _, s := range b.sent(time.Time{}) {
			for _, r := range s.pkt.answers {
				if r.typ == typeSRV {
					host = r.target
				}
			}
		}
		who := asker{t, b.port("192.0.2.9")}
		for _, c := range []struct {
			name string
			typ  dnsmessage.Type
			// bitmap is that of the types that are there; nil for no denial.
			bitmap     []byte
			additional bool
		}{
			{host, typeAAAA, []byte{0, 1, 0x40}, false},
			{host, typeA, []byte{0, 1, 0x40}, true},
			// TXT is 16, SRV is 33.
			{instanceName(svc), typeA, []byte{0, 5, 0, 0, 0x80, 0, 0x40}, false},
			{instanceName(svc), typeTXT, nil, false},
			{"nobody.local.", typeA, nil, false},
		} {
			who.ask(packet{questions: []question{{c.name, c.typ}}})
			msg, _ := who.answer()
			var found *dnsmessage.UnknownResource
			if msg != nil {
				list := msg.Answers
				if c.additional {
					list = msg.Additionals
				}
				for _, r := range list {
					if u, ok := r.Body.(*dnsmessage.UnknownResource); ok && u.Type == typeNSEC && r.Header.Name.String() == c.name {
						found = u
					}
				}
			}
			if (found != nil) != (c.bitmap != nil) {
				t.Errorf("%v of %s is answered by %+v", c.typ, c.name, msg)
			}
			if found != nil && !slices.Equal(found.Data, append(appendName(nil, c.name), c.bitmap...)) {
				t.Errorf("%v of %s is denied by %x", c.typ, c.name, found.Data)
			}
			time.Sleep(2 * time.Second)
		}
		// A resolver of plain DNS is not told.
		data, err := packet{id: 1, questions: []question{{host, typeAAAA}}}.pack()
		if err != nil {
			t.Fatal(err)
		}
		if err := b.send(netip.MustParseAddrPort("192.0.2.9:4711"), outgoing{data: data}); err != nil {
			t.Fatal(err)
		}
		<-who.in
		if msg, _ := who.answer(); msg != nil {
			t.Errorf("answered %+v", msg)
		}
	})
}
