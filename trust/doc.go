// Package trust decides who belongs together: machines that share a token are
// a flock, and prove it to each other by TLS.
//
// # A first use
//
//	flock, err := trust.Open(dir)               // token and key are made if need be
//	ln = flock.Listener(ln)                     // accepts members of the flock alone
//	conn, err := flock.Client(ctx, raw, nodeID) // and nobody but that node
//
// # What is derived from a token
//
// A token is 256 random bits. HKDF-SHA256 (RFC 5869) without salt, with the
// info "budgie flock 1: Ed25519 seed of the certificate authority", makes of
// them the private key of the flock's certificate authority, which thus every
// member has, and nobody else. The id of the flock is the first 16 bytes of the
// SHA-256 of "budgie flock 1: id\n" and the authority's public key: it says
// nothing about the token and may be announced.
//
// # Nodes
//
// A node has an Ed25519 key of its own, which never leaves it; its id is the
// SHA-256 of its public key (see [NodeID]). It certifies itself with the flock's
// authority, for a client and a server apart, under the one name
// budgie://FLOCK/node/NODE. So a member can be anybody new, but no other node:
// for that it would need its key. Host names and addresses mean nothing.
//
// # Handshakes
//
// TLS 1.3 only, both sides verified: the certificate must be from the flock's
// authority, for that side, of the node whose key was used, and not out of
// date. There are no session tickets, so every connection is verified in full,
// and with them no early data (0-RTT), which crypto/tls does not have over TCP
// anyway. A protocol must be agreed on (ALPN).
//
// # Time
//
// A node makes itself certificates that are valid for [Lifetime], a new one for
// a handshake when the last is older than [Reissue]; nothing has to be renewed by
// anybody. A certificate is accepted up to [MaxSkew] before and after its
// validity, so clocks may be that far apart; [Peer.Skew] says how far they are.
// A connection may outlive the certificates that it began with.
//
// # Rotation
//
// There is no list of members, and so no way to put one out but a new token
// for all others. A Flock reads the token's file at every handshake, so a
// certificate by the old token is refused from the moment on at which the file
// was replaced, by whichever process; and it watches the file, so that
// connections that were verified by the old token are ended at once. While the
// file is gone or cannot be read, there are no new connections, and those that
// are there stay.
//
// # What is not protected against
//
// All members are equal: one that is taken over can read the token. The token
// lies in the data directory in clear, for its owner and root to read.
package trust
