package trust

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// The tests that need other processes start this test binary again, with what
// it shall do in childEnv and the data directory in dirEnv.
const (
	childEnv = "BUDGIE_TRUST_TEST_CHILD"
	dirEnv   = "BUDGIE_TRUST_TEST_DIR"
)

func TestMain(m *testing.M) {
	if do := os.Getenv(childEnv); do != "" {
		if err := child(do, os.Getenv(dirEnv)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// child is the main function of a child process. It prints the token and the
// node, or the new token.
func child(do, dir string) error {
	f, err := Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	var t Token
	if do == "rotate" {
		t, err = f.Rotate()
	} else {
		t, err = f.Token()
	}
	if err != nil {
		return err
	}
	fmt.Println(t.Reveal(), f.NodeID())
	return nil
}

// member returns a node of a token's flock that keeps nothing on disk.
func member(t *testing.T, tok Token, opts ...Option) *Flock {
	t.Helper()
	f, err := New(append([]Option{WithToken(tok, "a test")}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeFlock(t, f) })
	return f
}

// opened returns the node of a data directory.
func opened(t *testing.T, dir string, opts ...Option) *Flock {
	t.Helper()
	f, err := Open(dir, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeFlock(t, f) })
	return f
}

func closeFlock(t *testing.T, f *Flock) {
	t.Helper()
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

// patience bounds waiting for what must happen, so that a test that fails ends.
const patience = 30 * time.Second

// loopback returns the two ends of a TCP connection, closed at the end of the
// test.
func loopback(t *testing.T) (clientEnd, serverEnd net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	clientEnd, err = net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	serverEnd, err = ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []net.Conn{clientEnd, serverEnd} {
		t.Cleanup(func() { _ = c.Close() })
		if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
	}
	return clientEnd, serverEnd
}

// result is what the two sides of a handshake over real sockets say of it.
type result struct {
	client, server           error
	clientState, serverState tls.ConnectionState
}

// handshake connects a client and a server over loopback. Each says a word
// to the other, so that both know whether they were accepted. In TLS 1.3 a
// client's handshake is over before its certificate is looked at.
func handshake(t *testing.T, clientCfg, serverCfg *tls.Config) result {
	t.Helper()
	a, b := loopback(t)
	c, s := tls.Client(a, clientCfg), tls.Server(b, serverCfg)
	var r result
	var wg sync.WaitGroup
	wg.Go(func() { r.client, r.clientState = talk(c), c.ConnectionState() })
	wg.Go(func() { r.server, r.serverState = talk(s), s.ConnectionState() })
	wg.Wait()
	return r
}

// talk says a word and hears one, and closes the connection if it cannot.
func talk(c *tls.Conn) error {
	err := c.Handshake()
	if err == nil {
		_, err = c.Write([]byte("hello"))
	}
	if err == nil {
		_, err = io.ReadFull(c, make([]byte, 5))
	}
	if err != nil {
		_ = c.Close() // the other side must not wait
	}
	return err
}

// accepted fails the test unless both sides went through with a handshake.
func (r result) accepted(t *testing.T) {
	t.Helper()
	if r.client != nil || r.server != nil {
		t.Fatalf("client: %v; server: %v", r.client, r.server)
	}
}

// refused fails the test unless an error, that of the side which has to
// refuse, is of a kind, and neither side went through.
func (r result) refused(t *testing.T, err error, kind error) {
	t.Helper()
	if r.client == nil || r.server == nil {
		t.Fatalf("client: %v; server: %v: somebody went through", r.client, r.server)
	}
	if !errors.Is(err, ErrNotTrusted) || !errors.Is(err, kind) {
		t.Errorf("got %v, want %v", err, kind)
	}
}

// echoServer accepts connections of a listener and sends back what they say,
// until the test ends. ended gets the error of each connection's end.
func echoServer(t *testing.T, f *Flock) (addr string, ended <-chan error) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ends := make(chan error, 100)
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	wg.Go(func() {
		tln := f.Listener(ln)
		for {
			c, err := tln.Accept()
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				ends <- err
				continue
			}
			wg.Go(func() {
				defer c.Close()
				defer context.AfterFunc(ctx, func() { _ = c.Close() })()
				_, err := io.Copy(c, c)
				ends <- err
			})
		}
	})
	t.Cleanup(func() {
		cancel()
		_ = ln.Close()
		wg.Wait()
	})
	return ln.Addr().String(), ends
}

// connect makes a connection to a node and has it say a word.
func connect(t *testing.T, f *Flock, addr, node string) (*tls.Conn, error) {
	t.Helper()
	raw, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	c, err := f.Client(t.Context(), raw, node)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = c.Close() })
	return c, echo(c)
}

func echo(c net.Conn) error {
	if _, err := c.Write([]byte("hello")); err != nil {
		return err
	}
	_, err := io.ReadFull(c, make([]byte, 5))
	return err
}
