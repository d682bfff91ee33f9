package behaviourtest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"runtime"
	"sync"
	"time"
)

// patience bounds every wait for something that has to happen.
const patience = 10 * time.Second

// T is a case under way, what testing.T is for a test.
type T struct {
	ctx     context.Context
	subject Subject
	front   Front
	cert    tls.Certificate // of the front, made by the first proxy

	mu       sync.Mutex
	problems []string
	skipped  string
	cleanups []func()
}

// errorf notes a problem. It may be called by any goroutine.
func (t *T) errorf(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.problems = append(t.problems, fmt.Sprintf(format, args...))
}

// fatalf notes a problem and ends the case. Only the case's goroutine calls it.
func (t *T) fatalf(format string, args ...any) {
	t.errorf(format, args...)
	runtime.Goexit()
}

// skipf ends the case: it does not apply. Only the case's goroutine calls it.
func (t *T) skipf(format string, args ...any) {
	t.mu.Lock()
	t.skipped = fmt.Sprintf(format, args...)
	t.mu.Unlock()
	runtime.Goexit()
}

// cleanup calls f after the case, those that came last first.
func (t *T) cleanup(f func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.cleanups = append(t.cleanups, f)
}

func (t *T) cleanUp() {
	for {
		t.mu.Lock()
		n := len(t.cleanups)
		if n == 0 {
			t.mu.Unlock()
			return
		}
		f := t.cleanups[n-1]
		t.cleanups = t.cleanups[:n-1]
		t.mu.Unlock()
		f()
	}
}

// proxy starts a proxy in front of backends.
func (t *T) proxy(backends ...string) Proxy { return t.start(Setup{Backends: backends}) }

// start starts a proxy of a setup, whose front is the case's.
func (t *T) start(s Setup) Proxy {
	s.Front = t.front
	if t.front.OverTLS() {
		if t.cert.Leaf == nil {
			t.cert = t.newCertificate()
		}
		s.Certificate = t.cert
	}
	p, err := t.subject.Start(t.ctx, s)
	if errors.Is(err, ErrUnsupported) {
		t.skipf("%v", err)
	}
	if err != nil {
		t.fatalf("the proxy did not start: %v", err)
	}
	t.cleanup(p.Stop)
	return p
}

// update replaces the backends of a proxy.
func (t *T) update(p Proxy, backends ...string) {
	err := p.Update(backends)
	if errors.Is(err, ErrUnsupported) {
		t.skipf("%v", err)
	}
	if err != nil {
		t.fatalf("the backends could not be replaced: %v", err)
	}
}

const serverName = "proxy.test"

func (t *T) newCertificate() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.fatalf("making a key: %v", err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{serverName}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.fatalf("making a certificate: %v", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.fatalf("parsing a certificate: %v", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// tlsConfig is the clients'.
func (t *T) tlsConfig(protocols ...string) *tls.Config {
	roots := x509.NewCertPool()
	if t.cert.Leaf != nil {
		roots.AddCert(t.cert.Leaf)
	}
	return &tls.Config{RootCAs: roots, ServerName: serverName, NextProtos: protocols}
}

// wait returns what comes, within bounds.
func wait[V any](t *T, what string, ch <-chan V) (v V) {
	select {
	case v = <-ch:
	case <-time.After(patience):
		t.fatalf("%s: that did not happen", what)
	}
	return v
}

// until asks, every few milliseconds, until something is so, at most for as long
// as said, and reports whether it came to be so.
func until(d time.Duration, so func() bool) bool {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(d); ; <-tick.C {
		if so() {
			return true
		}
		if time.Now().After(end) {
			return false
		}
	}
}
