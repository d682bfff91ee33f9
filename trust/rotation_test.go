package trust

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// S1: a token that was rotated, here by another process, is refused from that
// moment on, and what was connected by it ends.
func TestCaseS1RotatedTokenIsRefused(t *testing.T) {
	for name, rotate := range map[string]func(*testing.T, *Flock, string) Token{
		"by this process": func(t *testing.T, f *Flock, _ string) Token {
			tok, err := f.Rotate()
			if err != nil {
				t.Fatal(err)
			}
			return tok
		},
		"by another process": func(t *testing.T, _ *Flock, dir string) Token {
			tok, _ := runChild(t, "rotate", dir)
			return tok
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			here := opened(t, dir)
			old, err := here.Token()
			if err != nil {
				t.Fatal(err)
			}
			there, leaver := member(t, old), member(t, old)
			addr, ended := echoServer(t, here)
			conn, err := connect(t, leaver, addr, here.NodeID())
			if err != nil {
				t.Fatal(err)
			}
			away, err := connect(t, here, hostOf(t, there), there.NodeID())
			if err != nil {
				t.Fatal(err)
			}
			stolen, err := leaver.certificate(client)
			if err != nil {
				t.Fatal(err)
			}
			g, err := here.Current()
			if err != nil {
				t.Fatal(err)
			}

			tok := rotate(t, here, dir)
			if tok.Equal(old) {
				t.Fatal("the new token is the old one")
			}
			// New handshakes, at once: nothing is waited for before them.
			if _, err := connect(t, leaver, addr, here.NodeID()); !errors.Is(err, ErrWrongFlock) {
				t.Errorf("with the old token: %v", err)
			}
			r := handshake(t, intruder(*stolen), here.ServerConfig())
			r.refused(t, r.server, ErrWrongFlock)
			r = handshake(t, here.ClientConfig(""), there.ServerConfig())
			r.refused(t, r.client, ErrWrongFlock)
			// Connections, at both ends.
			for what, c := range map[string]*tls.Conn{"of the old member": conn, "to the old member": away} {
				if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("the connection %s goes on: %v", what, err)
				}
			}
			<-ended // the first connection's
			select {
			case <-g.Ended():
			case <-time.After(patience):
				t.Error("the generation goes on")
			}
			// Whoever gets the new token is back.
			next := member(t, tok)
			if _, err := connect(t, next, addr, here.NodeID()); err != nil {
				t.Errorf("with the new token: %v", err)
			}
		})
	}
}

// hostOf starts an echo server of a node and returns its address.
func hostOf(t *testing.T, f *Flock) string {
	addr, _ := echoServer(t, f)
	return addr
}

// Other servers end their connections by the generation.
func TestCaseS1HTTPServerFollowsTheRotation(t *testing.T) {
	here := opened(t, t.TempDir())
	tok, err := here.Token()
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			p, err := PeerOf(*r.TLS)
			if err != nil {
				http.Error(w, err.Error(), http.StatusForbidden)
				return
			}
			_, _ = io.WriteString(w, r.Proto+" "+p.Node)
		}),
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
	var wg sync.WaitGroup
	wg.Go(func() { _ = srv.Serve(here.Listener(ln, "h2")) })
	defer wg.Wait()
	defer srv.Close()

	get := func(f *Flock) (string, *http.Transport, error) {
		tr := &http.Transport{TLSClientConfig: f.ClientConfig(here.NodeID(), "h2"), ForceAttemptHTTP2: true}
		t.Cleanup(tr.CloseIdleConnections)
		res, err := (&http.Client{Transport: tr, Timeout: patience}).Get("https://" + ln.Addr().String())
		if err != nil {
			return "", tr, err
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		return string(body), tr, err
	}
	old := member(t, tok)
	body, tr, err := get(old)
	if err != nil || body != "HTTP/2.0 "+old.NodeID() {
		t.Fatalf("%q, %v", body, err)
	}
	if err := here.Set(NewToken()); err != nil {
		t.Fatal(err)
	}
	// The transport has a connection from before, and would use it.
	if res, err := (&http.Client{Transport: tr, Timeout: patience}).Get("https://" + ln.Addr().String()); err == nil {
		res.Body.Close()
		t.Errorf("a request by the old token: %s", res.Status)
	}
	if _, _, err := get(old); !errors.Is(err, ErrWrongFlock) {
		t.Errorf("a new connection by the old token: %v", err)
	}
}

// A connection whose handshake is under way when the token changes is judged by
// the new one, and one that was verified by the old one ends.
func TestRotationDuringHandshake(t *testing.T) {
	tok := NewToken()
	a, b := opened(t, t.TempDir()), member(t, tok)
	if err := a.Set(tok); err != nil {
		t.Fatal(err)
	}
	raw, other := loopback(t)
	c, err := a.adopt(raw)
	if err != nil {
		t.Fatal(err)
	}
	before, err := a.current()
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Set(NewToken()); err != nil {
		t.Fatal(err)
	}
	if c.belong(before) {
		t.Error("it was verified by the old token, and goes on")
	}
	// It is still open, and gets to a handshake of its own.
	var wg sync.WaitGroup
	wg.Go(func() { _ = talk(tls.Client(other, b.ClientConfig(""))) })
	err = talk(tls.Server(c, a.config(server, "", nil, c)))
	wg.Wait()
	if err == nil {
		t.Error("the old token went through")
	}
	now, err := a.current()
	if err != nil {
		t.Fatal(err)
	}
	if c.belong(now) { // talk has closed it
		t.Error("a closed connection is kept")
	}
	if len(a.conns) != 0 {
		t.Errorf("%d connections are kept", len(a.conns))
	}
}

// The same token again is no change: connections stay.
func TestSettingTheSameToken(t *testing.T) {
	a := opened(t, t.TempDir())
	tok, err := a.Token()
	if err != nil {
		t.Fatal(err)
	}
	addr, _ := echoServer(t, a)
	b := member(t, tok)
	c, err := connect(t, b, addr, a.NodeID())
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Set(tok); err != nil {
		t.Fatal(err)
	}
	if _, err := a.current(); err != nil {
		t.Fatal(err)
	}
	if err := echo(c); err != nil {
		t.Errorf("the connection ended: %v", err)
	}
}

// While the token cannot be read nobody new gets in, and nobody is put out;
// afterwards all is as before.
func TestUnreadableTokenMeanwhile(t *testing.T) {
	for name, spoil := range map[string]func(*testing.T, string){
		"damaged": func(t *testing.T, path string) { write(t, path, "rubbish", 0o600) },
		"gone": func(t *testing.T, path string) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			var log syncBuffer
			dir := t.TempDir()
			a := opened(t, dir, WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
			tok, err := a.Token()
			if err != nil {
				t.Fatal(err)
			}
			addr, _ := echoServer(t, a)
			b := member(t, tok)
			c, err := connect(t, b, addr, a.NodeID())
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, tokenName)
			spoil(t, path)
			if _, err := connect(t, b, addr, a.NodeID()); err == nil {
				t.Error("a new connection")
			}
			r := handshake(t, a.ClientConfig(""), b.ServerConfig())
			if !errors.Is(r.client, ErrUnusable) || r.server == nil {
				t.Errorf("client: %v, server: %v", r.client, r.server)
			}
			if _, err := a.Token(); !errors.Is(err, ErrUnusable) || !strings.Contains(err.Error(), path) {
				t.Errorf("Token: %v", err)
			}
			log.await(t, "no new connections") // it was noticed without a handshake too
			if err := echo(c); err != nil {
				t.Errorf("the connection ended: %v", err)
			}
			write(t, path, tok.Reveal(), 0o600)
			if _, err := connect(t, b, addr, a.NodeID()); err != nil {
				t.Errorf("when it can be read again: %v", err)
			}
			if err := echo(c); err != nil {
				t.Errorf("the connection ended: %v", err)
			}
			noSecret(t, log.String(), tok.Reveal())
		})
	}
}

// Where the file system tells nothing, the token is looked at all the same; an
// error that lasts is told once.
func TestChangesAreFoundWithoutNotice(t *testing.T) {
	dir := t.TempDir()
	var log bytes.Buffer
	synctest.Test(t, func(t *testing.T) {
		f, err := Open(dir, WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
		if err != nil {
			t.Fatal(err)
		}
		g, err := f.current()
		if err != nil {
			t.Fatal(err)
		}
		f.wg.Go(func() { f.follow(nil, f.stop) })
		write(t, filepath.Join(dir, tokenName), "rubbish", 0o600)
		time.Sleep(3 * rescan)
		synctest.Wait()
		if strings.Count(log.String(), "cannot be used") != 1 {
			t.Errorf("the log is %q", log.String())
		}
		write(t, filepath.Join(dir, tokenName), NewToken().Reveal(), 0o600)
		time.Sleep(rescan)
		synctest.Wait()
		select {
		case <-g.Ended():
		default:
			t.Error("the change was not found")
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestWatchingThatFails(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	var log bytes.Buffer
	f := opened(t, dir, WithLogger(nil), WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := f.watch(); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), "noticed late") {
		t.Errorf("the log is %q", log.String())
	}
}

func TestClosedFlock(t *testing.T) {
	dir := t.TempDir()
	a := opened(t, dir)
	tok, err := a.Token()
	if err != nil {
		t.Fatal(err)
	}
	b := member(t, tok)
	addr, ended := echoServer(t, a)
	c, err := connect(t, b, addr, "")
	if err != nil {
		t.Fatal(err)
	}
	g, err := a.Current()
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		closeFlock(t, a)
	}
	<-g.Ended()
	<-ended
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("the connection goes on")
	}
	if err := a.Set(NewToken()); !errors.Is(err, ErrClosed) {
		t.Errorf("Set: %v", err)
	}
	if now, err := opened(t, dir).Token(); err != nil || !now.Equal(tok) {
		t.Errorf("Set changed the token nevertheless: %v", err)
	}
	_, tokenErr := a.Token()
	_, rotateErr := a.Rotate()
	_, currentErr := a.Current()
	raw, _ := loopback(t)
	_, clientErr := a.Client(t.Context(), raw, "")
	for what, err := range map[string]error{"Token": tokenErr, "Rotate": rotateErr, "Current": currentErr, "Client": clientErr} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s: %v", what, err)
		}
	}
	r := handshake(t, b.ClientConfig(""), a.ServerConfig())
	if !errors.Is(r.server, ErrClosed) || r.client == nil {
		t.Errorf("client: %v, server: %v", r.client, r.server)
	}
	if raw, err := net.Dial("tcp", addr); err == nil {
		// The listener goes on and says that each newcomer is closed.
		if err := <-ended; !errors.Is(err, ErrClosed) {
			t.Errorf("Accept: %v", err)
		}
		_ = raw.Close()
	}
}

func TestListenerThatEnds(t *testing.T) {
	f := member(t, NewToken())
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tln := f.Listener(ln)
	if err := tln.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := tln.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept: %v", err)
	}
}

func TestClientWithoutAnswer(t *testing.T) {
	f := member(t, NewToken())
	raw, other := loopback(t)
	ctx, cancel := contextOf(t)
	cancel()
	if _, err := f.Client(ctx, raw, ""); !errors.Is(err, ctx.Err()) || !strings.Contains(err.Error(), raw.RemoteAddr().String()) {
		t.Errorf("got %v", err)
	}
	if _, err := io.Copy(io.Discard, other); err != nil && !isReset(err) {
		t.Errorf("the connection stays open: %v", err)
	}
	if len(f.conns) != 0 {
		t.Errorf("%d connections are kept", len(f.conns))
	}
}

// A connection that is refused is closed and forgotten.
func TestClientThatRefuses(t *testing.T) {
	f := member(t, NewToken())
	raw, other := loopback(t)
	website := tls.Server(other, intruder(forge(t, forgery{})))
	var wg sync.WaitGroup
	wg.Go(func() { _ = talk(website) })
	_, err := f.Client(t.Context(), raw, "")
	wg.Wait()
	if !errors.Is(err, ErrNotTrusted) || !strings.Contains(err.Error(), raw.RemoteAddr().String()) {
		t.Errorf("got %v", err)
	}
	if _, err := raw.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the connection stays open: %v", err)
	}
	if len(f.conns) != 0 {
		t.Errorf("%d connections are kept", len(f.conns))
	}
}

// What another process does is noticed by itself, without a handshake and long
// before the token is looked at again.
func TestChangesAreNoticed(t *testing.T) {
	dir := t.TempDir()
	f := opened(t, dir)
	f.rescan = 1000 * time.Hour
	g, err := f.Current()
	if err != nil {
		t.Fatal(err)
	}
	tok, _ := runChild(t, "rotate", dir)
	select {
	case <-g.Ended():
	case <-time.After(patience):
		t.Fatal("the change was not noticed")
	}
	if g, err = f.Current(); err != nil || g.FlockID() != tok.FlockID() {
		t.Errorf("the flock is %v", err)
	}
}

func TestExplain(t *testing.T) {
	plain := errors.New("plain")
	if Explain(plain) != plain || Explain(nil) != nil {
		t.Error("an error of another kind was changed")
	}
	alert := &net.OpError{Op: "remote error", Err: errors.New("tls: bad certificate")}
	err := Explain(alert)
	if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "tls: bad certificate") || errors.Is(err, ErrNotTrusted) {
		t.Errorf("got %v", err)
	}
	if Explain(err) != err {
		t.Error("it is explained twice")
	}
}
