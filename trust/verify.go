package trust

import (
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"
)

// Peer is the node at the other side of a connection.
type Peer struct {
	// Node is the node's id, which it proved by its key.
	Node string
	// Flock is the id of the flock that it proved to be in.
	Flock string
	// Skew is how far its clock is at least ahead of this machine's, negative
	// where it is behind. It is zero for clocks that are less than about
	// [Reissue] apart. [PeerOf] leaves it zero.
	Skew time.Duration
}

// PeerOf returns who is at the other side of a connection that was made with a
// configuration of this package; it does not verify anything again. Before the
// end of the handshake, and for connections of other kinds, the error is
// ErrNotTrusted.
func PeerOf(cs tls.ConnectionState) (Peer, error) {
	if !cs.HandshakeComplete || len(cs.PeerCertificates) == 0 {
		return Peer{}, refuse(ErrNotTrusted, "the other side has not proved who it is")
	}
	leaf := cs.PeerCertificates[0]
	p := Peer{Node: nodeID(leaf.RawSubjectPublicKeyInfo), Flock: claimedFlock(leaf)}
	if !names(leaf, p) {
		return Peer{}, refuse(ErrNotTrusted, "the other side's certificate is not one of a node")
	}
	return p, nil
}

// names reports whether a certificate's only name is that of a node.
func names(leaf *x509.Certificate, p Peer) bool {
	return len(leaf.URIs) == 1 && leaf.URIs[0].String() == nodeURI(p.Flock, p.Node).String()
}

// verify returns the node that a certificate is of, if the authority has
// certified it for its side of the handshake and it is valid, give or take
// MaxSkew.
func (a *authority) verify(leaf *x509.Certificate, r role, now time.Time) (Peer, error) {
	_, err := leaf.Verify(x509.VerifyOptions{
		Roots: a.pool,
		// None: the authority certifies nodes, and no other authorities.
		Intermediates: x509.NewCertPool(),
		KeyUsages:     []x509.ExtKeyUsage{r.usage()},
		// The time is looked at below, with patience.
		CurrentTime: leaf.NotBefore,
	})
	if err != nil {
		return Peer{}, a.whyNot(leaf, r, err)
	}
	p := Peer{Node: nodeID(leaf.RawSubjectPublicKeyInfo), Flock: a.id, Skew: skew(leaf.NotBefore, now)}
	if _, ok := leaf.PublicKey.(ed25519.PublicKey); !ok || !names(leaf, p) {
		return Peer{}, refuse(ErrNotTrusted, "the other machine's certificate is not one of the node whose key it has")
	}
	if early := leaf.NotBefore.Sub(now); early > MaxSkew {
		return Peer{}, refuse(ErrClock, fmt.Sprintf(
			"the clock of node %.12s is %s ahead of this machine's, and %s are tolerated: set the clock that is wrong", p.Node, inWords(early), inWords(MaxSkew)))
	}
	if late := now.Sub(leaf.NotAfter); late > MaxSkew {
		return Peer{}, refuse(ErrExpired, fmt.Sprintf(
			"the certificate of node %.12s expired %s ago, and clocks that differ by %s are tolerated: set the clock that is wrong, "+
				"or if both are right, look who uses an old certificate there", p.Node, inWords(late), inWords(MaxSkew)))
	}
	return p, nil
}

// whyNot says what the error of a certificate's verification means.
func (a *authority) whyNot(leaf *x509.Certificate, r role, err error) error {
	if flock := claimedFlock(leaf); flock != "" && flock != a.id {
		return refuse(ErrWrongFlock, fmt.Sprintf(
			"the other machine has another token (its flock is %s, this machine's %s): run \"budgie token set\" there with what \"budgie token\" prints here, or the other way round",
			flock, a.id))
	}
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.IncompatibleUsage {
		return refuse(ErrNotTrusted, "the other side used a certificate of a "+r.other().word()+" as a "+r.word())
	}
	return refuse(ErrNotTrusted, "the other side's certificate is not from this machine's flock: something else than Budgie answers there, "+
		"or it pretends to be a node of the flock")
}

func (r role) word() string {
	if r == server {
		return "server"
	}
	return "client"
}

// skew returns by how much the clock that a certificate's time is of is ahead
// of now, with the age that the certificate may have taken for nothing.
func skew(issued, now time.Time) time.Duration {
	switch ahead := issued.Sub(now); {
	case ahead > 0:
		return ahead
	case ahead < -Reissue:
		return ahead + Reissue
	}
	return 0
}

// inWords rounds a time to what matters of it.
func inWords(d time.Duration) string {
	switch {
	case d >= 2*time.Hour:
		return fmt.Sprintf("%.0f h", d.Hours())
	case d >= 2*time.Minute:
		return fmt.Sprintf("%.0f min", d.Minutes())
	}
	return fmt.Sprintf("%.0f s", d.Seconds())
}
