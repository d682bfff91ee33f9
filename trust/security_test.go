package trust

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net/url"
	"strings"
	"testing"
	"time"
)

func TestMembersTrustEachOther(t *testing.T) {
	tok := NewToken()
	a, b := member(t, tok), member(t, tok)
	for _, expected := range []string{"", b.NodeID()} {
		r := handshake(t, a.ClientConfig(expected), b.ServerConfig())
		r.accepted(t)
		for _, side := range []struct {
			state tls.ConnectionState
			peer  *Flock
		}{{r.clientState, b}, {r.serverState, a}} {
			if p, err := PeerOf(side.state); err != nil || p != (Peer{Node: side.peer.NodeID(), Flock: tok.FlockID()}) {
				t.Errorf("the peer is %+v, %v", p, err)
			}
			if side.state.Version != tls.VersionTLS13 || side.state.NegotiatedProtocol != Protocol || side.state.DidResume {
				t.Errorf("TLS %x, protocol %q, resumed %v", side.state.Version, side.state.NegotiatedProtocol, side.state.DidResume)
			}
		}
	}
}

func TestPeerOfSomethingElse(t *testing.T) {
	if _, err := PeerOf(tls.ConnectionState{}); !errors.Is(err, ErrNotTrusted) {
		t.Errorf("before the handshake: %v", err)
	}
	cert := forge(t, forgery{})
	if _, err := PeerOf(tls.ConnectionState{HandshakeComplete: true, PeerCertificates: []*x509.Certificate{cert.Leaf}}); !errors.Is(err, ErrNotTrusted) {
		t.Errorf("of a website: %v", err)
	}
	cert = forge(t, forgery{flock: NewToken()})
	if _, err := PeerOf(tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert.Leaf}}); !errors.Is(err, ErrNotTrusted) {
		t.Errorf("during the handshake: %v", err)
	}
}

// forgery says how a certificate that nobody should make is made. What is not
// set is as in a node's certificate by the flock's authority.
type forgery struct {
	flock Token
	// key is the node's; a new one if it is nil.
	key crypto.Signer
	// parent and parentKey sign instead of the flock's authority.
	parent    *x509.Certificate
	parentKey crypto.Signer
	// self makes it sign itself.
	self bool
	// change is applied last.
	change func(*x509.Certificate)
}

// forge makes a certificate for both sides of handshakes.
func forge(t *testing.T, f forgery) tls.Certificate {
	t.Helper()
	if f.key == nil {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		f.key = key
	}
	node, err := NodeID(f.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(7),
		Subject:      pkix.Name{CommonName: node},
		NotBefore:    time.Now(), NotAfter: time.Now().Add(Lifetime),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	if !f.flock.IsZero() {
		template.URIs = []*url.URL{nodeURI(f.flock.FlockID(), node)}
		if f.parent == nil && !f.self {
			a, err := newAuthority(f.flock)
			if err != nil {
				t.Fatal(err)
			}
			f.parent, f.parentKey = a.cert, a.key()
		}
	}
	if f.change != nil {
		f.change(template)
	}
	if f.parent == nil {
		f.parent, f.parentKey = template, f.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, f.parent, f.key.Public(), f.parentKey)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: f.key, Leaf: leaf}
}

// intruder is the configuration of somebody who verifies nothing.
func intruder(certs ...tls.Certificate) *tls.Config {
	return &tls.Config{
		InsecureSkipVerify: true, ClientAuth: tls.RequestClientCert,
		Certificates: certs, NextProtos: []string{Protocol},
	}
}

// A forged certificate that differs from a node's in nothing is accepted: so
// the tests below fail for the reason that they name, and no other.
func TestForgeriesAreGoodEnough(t *testing.T) {
	tok := NewToken()
	m := member(t, tok)
	cert := forge(t, forgery{flock: tok})
	handshake(t, intruder(cert), m.ServerConfig()).accepted(t)
	handshake(t, m.ClientConfig(nodeID(cert.Leaf.RawSubjectPublicKeyInfo)), intruder(cert)).accepted(t)
}

func TestIntrudersAreRefused(t *testing.T) {
	tok, other := NewToken(), NewToken()
	victim := member(t, tok)
	_, victimKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	authority, err := newAuthority(tok)
	if err != nil {
		t.Fatal(err)
	}
	// A node whose certificate is made to sign others.
	node := forge(t, forgery{flock: tok, change: func(c *x509.Certificate) { c.IsCA, c.KeyUsage = true, x509.KeyUsageCertSign }})
	below := forge(t, forgery{flock: tok, parent: node.Leaf, parentKey: node.PrivateKey.(crypto.Signer)})
	below.Certificate = append(below.Certificate, node.Certificate...)

	for _, c := range []struct {
		name string
		cert tls.Certificate
		kind error
		want string
	}{
		{"wrong token", forge(t, forgery{flock: other}), ErrWrongFlock, "budgie token set"},
		{"self-signed with the right names", forge(t, forgery{flock: tok, self: true, change: func(c *x509.Certificate) {
			c.Subject = authority.cert.Subject
		}}), ErrNotTrusted, "not from this machine's flock"},
		{"own authority with the right name", forge(t, forgery{flock: tok, parentKey: victimKey, parent: &x509.Certificate{
			Subject: authority.cert.Subject, SubjectKeyId: authority.cert.SubjectKeyId, PublicKey: victimKey.Public(),
		}}), ErrNotTrusted, "not from this machine's flock"},
		{"a website", forge(t, forgery{}), ErrNotTrusted, "not from this machine's flock"},
		{"certified by a node", below, ErrNotTrusted, "not from this machine's flock"},
		{"another node's name", forge(t, forgery{flock: tok, change: func(c *x509.Certificate) {
			c.URIs = []*url.URL{nodeURI(tok.FlockID(), victim.NodeID())}
		}}), ErrNotTrusted, "not one of the node whose key it has"},
		{"another flock's name", forge(t, forgery{flock: tok, change: func(c *x509.Certificate) {
			c.URIs[0].Host = other.FlockID()
		}}), ErrNotTrusted, "not one of the node whose key it has"},
		{"two names", forge(t, forgery{flock: tok, change: func(c *x509.Certificate) {
			c.URIs = append(c.URIs, nodeURI(tok.FlockID(), victim.NodeID()))
		}}), ErrNotTrusted, "not one of the node whose key it has"},
		{"no name", forge(t, forgery{flock: tok, change: func(c *x509.Certificate) { c.URIs = nil }}), ErrNotTrusted, "not one of the node"},
		{"another kind of key", forge(t, forgery{flock: tok, key: ec}), ErrNotTrusted, "not one of the node"},
		{"expired", forge(t, forgery{flock: tok, change: func(c *x509.Certificate) {
			c.NotBefore = time.Now().Add(-MaxSkew - 2*Lifetime)
			c.NotAfter = time.Now().Add(-MaxSkew - Lifetime)
		}}), ErrExpired, "expired 25 h ago"},
		{"of the future", forge(t, forgery{flock: tok, change: func(c *x509.Certificate) {
			c.NotBefore = time.Now().Add(MaxSkew + 2*Lifetime)
			c.NotAfter = time.Now().Add(MaxSkew + 3*Lifetime)
		}}), ErrClock, "26 h ahead"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := handshake(t, intruder(c.cert), victim.ServerConfig())
			r.refused(t, r.server, c.kind)
			if !strings.Contains(r.server.Error(), c.want) {
				t.Errorf("as a client: %v", r.server)
			}
			if !errors.Is(Explain(r.client), ErrRefused) {
				t.Errorf("the client learns %v", r.client)
			}
			r = handshake(t, victim.ClientConfig(""), intruder(c.cert))
			r.refused(t, r.client, c.kind)
			if !strings.Contains(r.client.Error(), c.want) {
				t.Errorf("as a server: %v", r.client)
			}
		})
	}
}

func TestNoCertificate(t *testing.T) {
	victim := member(t, NewToken())
	r := handshake(t, intruder(), victim.ServerConfig())
	if r.client == nil || r.server == nil {
		t.Fatalf("client: %v; server: %v: somebody went through", r.client, r.server)
	}
	// crypto/tls is the first to notice; this package does not rely on it.
	for _, side := range []role{client, server} {
		if err := victim.verify(tls.ConnectionState{NegotiatedProtocol: Protocol}, side, "", nil); !errors.Is(err, ErrNotTrusted) {
			t.Errorf("a %s without a certificate: %v", side.word(), err)
		}
	}
}

// Both sides say which token to take where.
func TestWrongTokenIsNamed(t *testing.T) {
	a, b := member(t, NewToken()), member(t, NewToken())
	r := handshake(t, a.ClientConfig(b.NodeID()), b.ServerConfig())
	r.refused(t, r.client, ErrWrongFlock)
	for _, want := range []string{"budgie token set", "budgie token", "its flock is " + flockOf(t, b), "this machine's " + flockOf(t, a)} {
		if !strings.Contains(r.client.Error(), want) {
			t.Errorf("%q is not in: %v", want, r.client)
		}
	}
	if !errors.Is(Explain(r.server), ErrRefused) || !strings.Contains(Explain(r.server).Error(), "budgie token -id") {
		t.Errorf("the server learns %v", r.server)
	}
}

func flockOf(t *testing.T, f *Flock) string {
	t.Helper()
	tok, err := f.Token()
	if err != nil {
		t.Fatal(err)
	}
	return tok.FlockID()
}

// A flock's name in somebody's certificate gets into messages only if it is
// one.
func TestClaimedFlockIsAnID(t *testing.T) {
	for _, name := range []string{"", "x", "budgie flock ", "budgie flock \x1b[31m", "budgie flock " + strings.Repeat("0", 31), "budgie flock " + strings.Repeat("0", 4096)} {
		if got := claimedFlock(&x509.Certificate{Issuer: pkix.Name{CommonName: name}}); got != "" {
			t.Errorf("%q claims flock %q", name, got)
		}
	}
}

func TestAnotherNodeThanExpected(t *testing.T) {
	tok := NewToken()
	a, b, c := member(t, tok), member(t, tok), member(t, tok)
	r := handshake(t, a.ClientConfig(b.NodeID()), c.ServerConfig())
	r.refused(t, r.client, ErrWrongNode)
	for _, node := range []*Flock{b, c} {
		if !strings.Contains(r.client.Error(), node.NodeID()[:12]) {
			t.Errorf("which nodes? %v", r.client)
		}
	}
}

// A certificate is for one side of handshakes.
func TestCertificatesOfTheOtherSide(t *testing.T) {
	tok := NewToken()
	a, b := member(t, tok), member(t, tok)
	own := func(r role) tls.Certificate {
		cert, err := a.certificate(r)
		if err != nil {
			t.Fatal(err)
		}
		return *cert
	}
	handshake(t, intruder(own(client)), b.ServerConfig()).accepted(t)
	handshake(t, b.ClientConfig(""), intruder(own(server))).accepted(t)
	r := handshake(t, intruder(own(server)), b.ServerConfig())
	r.refused(t, r.server, ErrNotTrusted)
	if !strings.Contains(r.server.Error(), "certificate of a server as a client") {
		t.Errorf("got %v", r.server)
	}
	r = handshake(t, b.ClientConfig(""), intruder(own(client)))
	r.refused(t, r.client, ErrNotTrusted)
	if !strings.Contains(r.client.Error(), "certificate of a client as a server") {
		t.Errorf("got %v", r.client)
	}
}

func TestOlderTLS(t *testing.T) {
	tok := NewToken()
	m := member(t, tok)
	old := intruder(forge(t, forgery{flock: tok}))
	old.MaxVersion = tls.VersionTLS12
	for side, r := range map[string]result{
		"client": handshake(t, old, m.ServerConfig()),
		"server": handshake(t, m.ClientConfig(""), old),
	} {
		if r.client == nil || r.server == nil {
			t.Errorf("a %s of TLS 1.2 went through", side)
		}
	}
}

// Both must name a protocol, and the same.
func TestProtocols(t *testing.T) {
	tok := NewToken()
	m := member(t, tok)
	silent := intruder(forge(t, forgery{flock: tok}))
	silent.NextProtos = nil
	r := handshake(t, silent, m.ServerConfig())
	r.refused(t, r.server, ErrNotTrusted)
	r = handshake(t, m.ClientConfig(""), silent)
	r.refused(t, r.client, ErrNotTrusted)
	if !strings.Contains(r.client.Error(), "ALPN") {
		t.Errorf("got %v", r.client)
	}
	r = handshake(t, m.ClientConfig("", "budgie/2"), m.ServerConfig())
	if r.client == nil || r.server == nil || !errors.Is(Explain(r.client), ErrRefused) {
		t.Errorf("client: %v, server: %v", r.client, r.server)
	}
	r = handshake(t, m.ClientConfig("", "budgie/2", "h2"), m.ServerConfig("h2"))
	r.accepted(t)
	if r.clientState.NegotiatedProtocol != "h2" {
		t.Errorf("they speak %q", r.clientState.NegotiatedProtocol)
	}
}

// A client that asks for tickets gets none: each connection is verified in
// full.
func TestNoResumption(t *testing.T) {
	tok := NewToken()
	m := member(t, tok)
	cfg := intruder(forge(t, forgery{flock: tok}))
	cfg.ServerName = "budgie" // the cache's key
	cfg.ClientSessionCache = tls.NewLRUClientSessionCache(10)
	serverCfg := m.ServerConfig() // one, as tickets are only good for their own
	for range 3 {
		r := handshake(t, cfg, serverCfg)
		r.accepted(t)
		if r.clientState.DidResume || r.serverState.DidResume {
			t.Error("the connection was resumed")
		}
	}
}

// Somebody between two members, with an authority of his own, learns nothing
// from the one and cannot be the other.
func TestManInTheMiddle(t *testing.T) {
	tok := NewToken()
	a, b := member(t, tok), member(t, tok)
	authority, err := newAuthority(tok)
	if err != nil {
		t.Fatal(err)
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := &x509.Certificate{Subject: authority.cert.Subject, SubjectKeyId: authority.cert.SubjectKeyId, PublicKey: key.Public()}
	// He gives himself out as b to a, and as a to b.
	asNode := func(f *Flock) *tls.Config {
		return intruder(forge(t, forgery{flock: tok, parent: ca, parentKey: key, change: func(c *x509.Certificate) {
			c.URIs = []*url.URL{nodeURI(tok.FlockID(), f.NodeID())}
		}}))
	}
	r := handshake(t, a.ClientConfig(b.NodeID()), asNode(b))
	r.refused(t, r.client, ErrNotTrusted)
	r = handshake(t, asNode(a), b.ServerConfig())
	r.refused(t, r.server, ErrNotTrusted)
	// He shows a's real certificate, which he saw nowhere, but might have:
	// without its key it does not help.
	cert, err := a.certificate(client)
	if err != nil {
		t.Fatal(err)
	}
	r = handshake(t, intruder(tls.Certificate{Certificate: cert.Certificate, PrivateKey: key}), b.ServerConfig())
	if r.client == nil || r.server == nil {
		t.Errorf("client: %v; server: %v: somebody went through", r.client, r.server)
	}
}

// Whatever somebody sends as a certificate: what is accepted was signed by the
// flock's authority.
func FuzzVerify(f *testing.F) {
	tok := tokenFrom([secretLen]byte{1})
	a, err := newAuthority(tok)
	if err != nil {
		f.Fatal(err)
	}
	self, err := newIdentity()
	if err != nil {
		f.Fatal(err)
	}
	now := time.Unix(1_800_000_000, 0)
	for _, r := range []role{client, server} {
		cert, err := a.issue(self, r, now)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(cert.Certificate[0])
	}
	f.Add(a.cert.Raw)
	f.Add([]byte{0x30, 0})
	f.Fuzz(func(t *testing.T, der []byte) {
		leaf, err := x509.ParseCertificate(der)
		if err != nil {
			return
		}
		public := a.cert.PublicKey.(ed25519.PublicKey)
		for _, r := range []role{client, server} {
			p, err := a.verify(leaf, r, now)
			switch {
			case err == nil && !ed25519.Verify(public, leaf.RawTBSCertificate, leaf.Signature):
				t.Errorf("accepted a %s's certificate that the authority did not sign", r.word())
			case err == nil && p.Flock != a.id:
				t.Errorf("it is of %+v", p)
			case err != nil && !errors.Is(err, ErrNotTrusted):
				t.Errorf("got %v", err)
			}
		}
		_, _ = PeerOf(tls.ConnectionState{HandshakeComplete: true, PeerCertificates: []*x509.Certificate{leaf}})
	})
}
