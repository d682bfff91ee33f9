package peer_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/budgiehq/budgie/peer"
	"github.com/budgiehq/budgie/peer/peertest"
	"github.com/budgiehq/budgie/runtime"
	"github.com/budgiehq/budgie/trust"
)

// endpoints are all that a Client can ask for.
var endpoints = map[string]func(*testing.T, *peer.Client) error{
	"connect":    func(t *testing.T, c *peer.Client) error { _, err := c.Connect(soon(t)); return err },
	"containers": func(t *testing.T, c *peer.Client) error { _, err := c.Containers(soon(t)); return err },
	"spec":       func(t *testing.T, c *peer.Client) error { _, err := c.Spec(soon(t), container(1).ID); return err },
	"events": func(t *testing.T, c *peer.Client) error {
		for _, err := range c.Watch(soon(t)) {
			return err
		}
		return nil
	},
	"image": func(t *testing.T, c *peer.Client) error { _, err := c.Image(soon(t), "web"); return err },
	"blob": func(t *testing.T, c *peer.Client) error {
		data := []byte("a layer")
		r, err := c.Blobs("web").Open(soon(t), runtime.Descriptor{Digest: peertest.Digest(data), Size: int64(len(data))}, 0)
		if err != nil {
			return err
		}
		defer r.Close()
		_, err = io.ReadAll(r)
		return err
	},
}

// furnish gives a rig's node something for every endpoint.
func (r *rig) furnish() {
	r.node.Set(container(1))
	r.node.SetSpec(container(1).ID, []byte("a specification"))
	r.images.Put([]byte("a layer"))
	manifest := []byte(`{"schemaVersion":2,"config":{}}`)
	r.images.Tag("docker.io/library/web:latest", runtime.Descriptor{
		MediaType: "application/vnd.oci.image.manifest.v1+json", Digest: r.images.Put(manifest), Size: int64(len(manifest)),
	})
}

// S1: a token that was rotated is refused on every endpoint, by the node that
// has the new one and towards it, and the connections that it made are ended.
func TestRotatedTokenIsRefusedOnEveryEndpoint_S1(t *testing.T) {
	for name, ask := range endpoints {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := &rig{node: &peertest.Node{}, images: &peertest.Images{}}
			r.node.AddImages(r.images)
			r.furnish()
			var err error
			if r.flock, err = trust.New(); err != nil { // its token can change
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = r.flock.Close() })
			tok, err := r.flock.Token()
			if err != nil {
				t.Fatal(err)
			}
			r.other = member(t, tok)
			r.server, r.addr = start(t, r.flock, r.node)
			c := r.client(t)
			if err := ask(t, c); err != nil {
				t.Fatalf("before: %v", err)
			}
			ended := make(chan error, 1)
			watched := make(chan struct{})
			go func() {
				for _, err := range c.Watch(t.Context()) {
					if err != nil {
						ended <- err
						return
					}
					close(watched)
				}
			}()
			<-watched
			if _, err := r.flock.Rotate(); err != nil {
				t.Fatal(err)
			}
			select {
			case err := <-ended:
				if errors.Is(err, peer.ErrSilent) {
					t.Errorf("the connection was not ended: %v", err)
				}
			case <-time.After(patience):
				t.Fatal("the connection outlives the token")
			}
			for range 2 {
				if err := ask(t, c); !errors.Is(err, trust.ErrNotTrusted) && !errors.Is(err, trust.ErrRefused) {
					t.Errorf("with the old token: %v", err)
				}
			}
			// The other way round: who has the old token does not talk to it.
			fresh := clientOf(t, r.other, "", []netip.AddrPort{r.addr})
			if err := ask(t, fresh); !errors.Is(err, trust.ErrWrongFlock) {
				t.Errorf("a new client with the old token: %v", err)
			}
		})
	}
}

// stranger makes a certificate that is not of the flock: its own work, expired
// or not.
func stranger(t *testing.T, from, to time.Time) tls.Certificate {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "budgie"}, NotBefore: from, NotAfter: to,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// Whoever is not of the flock gets no byte of an answer, whatever he asks for.
func TestStrangersLearnNothing(t *testing.T) {
	r := newRig(t)
	r.furnish()
	now := time.Now()
	elsewhere := member(t, trust.NewToken())
	past, err := trust.New(trust.WithToken(r.token, "a test"), trust.WithClock(func() time.Time { return now.Add(-trust.MaxSkew - 2*trust.Lifetime) }))
	if err != nil {
		t.Fatal(err)
	}
	defer past.Close()
	naive := func(certs ...tls.Certificate) *tls.Config {
		return &tls.Config{InsecureSkipVerify: true, NextProtos: []string{peer.ALPN}, Certificates: certs}
	}
	// Somebody who verifies nothing, with a certificate of a Flock.
	lax := func(f *trust.Flock) *tls.Config {
		cfg := f.ClientConfig("", peer.ALPN)
		cfg.VerifyConnection = nil
		return cfg
	}
	old := naive(stranger(t, now.Add(-time.Hour), now.Add(time.Hour)))
	old.MaxVersion = tls.VersionTLS12
	http1 := r.other.ClientConfig("", "http/1.1")
	for name, cfg := range map[string]*tls.Config{
		"no certificate":        naive(),
		"self-made certificate": naive(stranger(t, now.Add(-time.Hour), now.Add(time.Hour))),
		"expired and self-made": naive(stranger(t, now.Add(-2*time.Hour), now.Add(-time.Hour))),
		"wrong token":           lax(elsewhere),
		"expired certificate":   lax(past),
		"TLS 1.2":               old,
		"another protocol":      http1,
	} {
		t.Run(name, func(t *testing.T) {
			for _, path := range []string{"/budgie/v1/", "/budgie/v1/containers", "/budgie/v1/events", "/budgie/v1/containers/" + container(1).ID + "/spec", "/v2/", "/v2/library/web/manifests/latest"} {
				c, err := r.connect(t, cfg)
				if err == nil {
					_, err = c.Write([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nGET " + path + " HTTP/1.1\r\nHost: x\r\n\r\n"))
				}
				var got []byte
				if err == nil {
					got, err = io.ReadAll(c)
				}
				if err == nil || len(got) > 0 {
					t.Errorf("%s: got %q, %v", path, got, err)
				}
				_ = c.Close() // it is over
			}
		})
	}
	raw, err := net.Dial("tcp", r.addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	if _, err := raw.Write([]byte("GET /budgie/v1/containers HTTP/1.1\r\nHost: x\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	got, _ := io.ReadAll(raw) // a reset is as good an end
	if bytes.Contains(got, []byte("HTTP/")) {
		t.Errorf("in clear: got %q", got)
	}
	if r.node.Watchers() != 0 {
		t.Error("somebody watches")
	}
	if _, err := r.client(t).Containers(soon(t)); err != nil {
		t.Errorf("a member: %v", err)
	}
}

// Who says no says why, to whoever can be told: the client's error is of
// package trust.
func TestRefusalIsExplained(t *testing.T) {
	r := newRig(t)
	elsewhere := member(t, trust.NewToken())
	for range 20 { // the alert and the end of the connection race each other
		c := peer.NewClient(elsewhere, "", []netip.AddrPort{r.addr})
		if _, err := c.Connect(soon(t)); !errors.Is(err, trust.ErrWrongFlock) || errors.Is(err, peer.ErrUnreachable) {
			t.Errorf("got %v", err)
		}
		_ = c.Close() // nothing is open
	}
	// A member by its clock, which the server does not believe: only the server
	// can see it.
	ahead, err := trust.New(trust.WithToken(r.token, "a test"), trust.WithClock(func() time.Time { return time.Now().Add(trust.MaxSkew + trust.Lifetime/2) }))
	if err != nil {
		t.Fatal(err)
	}
	defer ahead.Close()
	for range 20 {
		c := peer.NewClient(ahead, "", []netip.AddrPort{r.addr})
		if _, err := c.Connect(soon(t)); !errors.Is(err, trust.ErrRefused) {
			t.Errorf("got %v", err)
		}
		_ = c.Close() // nothing is open
	}
}

// Another member than the expected one is not talked to, nor anything else at
// the address; where the right one is at another address, that is used.
func TestWrongNodeIsNotTalkedTo(t *testing.T) {
	r := newRig(t)
	impostor := &peertest.Node{}
	impostor.Set(container(66))
	_, wrong := start(t, member(t, r.token), impostor)
	c := clientOf(t, r.other, r.flock.NodeID(), []netip.AddrPort{wrong})
	if _, err := c.Containers(soon(t)); !errors.Is(err, trust.ErrWrongNode) {
		t.Errorf("got %v", err)
	}
	r.node.Set(container(1))
	c = clientOf(t, r.other, r.flock.NodeID(), []netip.AddrPort{wrong, r.addr})
	got, err := c.Containers(soon(t))
	if err != nil || len(got) != 1 || got[0].ID != container(1).ID || c.Addr() != r.addr {
		t.Errorf("got %+v, %v from %s", got, err, c.Addr())
	}
}

// Who answered first at an address that stands for any node must answer there
// again.
func TestAnyNodeStaysTheSame(t *testing.T) {
	r := newRig(t)
	c := clientOf(t, r.other, "", []netip.AddrPort{r.addr})
	if _, err := c.Connect(soon(t)); err != nil {
		t.Fatal(err)
	}
	if err := r.server.Close(); err != nil {
		t.Fatal(err)
	}
	serveOn(t, peer.NewServer(member(t, r.token), &peertest.Node{}), listenAt(t, r.addr))
	if _, err := c.Connect(soon(t)); !errors.Is(err, trust.ErrWrongNode) {
		t.Errorf("another node: %v", err)
	}
}

// Somebody in the middle who passes on what he sees sees nothing, and somebody
// who answers himself is not talked to.
func TestManInTheMiddle(t *testing.T) {
	r := newRig(t)
	secret := []byte("a specification that nobody else may see")
	r.node.Set(container(1))
	r.node.SetSpec(container(1).ID, secret)
	var mu sync.Mutex
	var seen bytes.Buffer
	ln := listenAt(t, netip.MustParseAddrPort("127.0.0.1:0"))
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", r.addr.String())
			if err != nil {
				t.Error(err)
				return
			}
			for _, pair := range [][2]net.Conn{{in, out}, {out, in}} {
				wg.Go(func() {
					defer pair[0].Close()
					defer pair[1].Close()
					_, _ = io.Copy(pair[0], io.TeeReader(pair[1], writer(func(p []byte) {
						mu.Lock()
						defer mu.Unlock()
						seen.Write(p)
					})))
				})
			}
		}
	})
	c := peer.NewClient(r.other, r.flock.NodeID(), []netip.AddrPort{netip.MustParseAddrPort(ln.Addr().String())})
	text, err := c.Spec(soon(t), container(1).ID)
	if err != nil || !bytes.Equal(text, secret) {
		t.Errorf("through the middle: %q, %v", text, err)
	}
	_ = c.Close()  // the pipes end
	_ = ln.Close() // and the middle
	wg.Wait()
	mu.Lock()
	defer mu.Unlock()
	if seen.Len() < len(secret) {
		t.Fatalf("only %d bytes went by", seen.Len())
	}
	for _, s := range []string{string(secret), "/budgie/v1", container(1).ID, r.flock.NodeID(), r.other.NodeID()} {
		if bytes.Contains(seen.Bytes(), []byte(s)) {
			t.Errorf("%q went by in clear", s)
		}
	}
	// With a certificate of his own.
	cert := stranger(t, time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	tln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{peer.ALPN}, ClientAuth: tls.RequestClientCert})
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan []byte, 1)
	go func() {
		conn, err := tln.Accept()
		if err != nil {
			got <- nil
			return
		}
		defer conn.Close()
		data, _ := io.ReadAll(conn) // the error is the client's alert
		got <- data
	}()
	c = clientOf(t, r.other, r.flock.NodeID(), []netip.AddrPort{netip.MustParseAddrPort(tln.Addr().String())})
	if _, err := c.Spec(soon(t), container(1).ID); !errors.Is(err, trust.ErrNotTrusted) {
		t.Errorf("an answer of the middle's own: %v", err)
	}
	if data := <-got; len(data) > 0 {
		t.Errorf("the middle was told %q", data)
	}
	_ = tln.Close() // it is over
}

type writer func([]byte)

func (w writer) Write(p []byte) (int, error) { w(p); return len(p), nil }
