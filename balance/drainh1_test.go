package balance_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/budgiehq/budgie/balance"
	"github.com/budgiehq/budgie/bunfile"
)

// shutDown begins the shutdown of a frontend and returns where its outcome comes.
func shutDown(f *front) <-chan error {
	done := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		done <- f.Shutdown(ctx)
	}()
	return done
}

// A request that came together with the one before it is under way, and no drain cuts it
// off, however long it takes.
func TestShutdownServesPipelinedRequest(t *testing.T) {
	for name, extra := range map[string]string{"fast": "", "full": "TE: trailers\r\n"} {
		t.Run(name, func(t *testing.T) {
			begun, answer := make(chan struct{}), make(chan struct{})
			f := openHTTP(t, balance.WithIdleQuiet(time.Nanosecond))
			f.set(httpBackend(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Method == "POST" {
					close(begun)
					<-answer
				}
				io.WriteString(w, r.Method)
			}))
			idle, idleIn := dialFront(t, f)
			converse(t, idle, idleIn, "GET / HTTP/1.1\r\nHost: a\r\n"+extra+"\r\n")
			c, in := dialFront(t, f)
			c.SetDeadline(time.Now().Add(patience))
			io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n"+extra+"\r\nPOST / HTTP/1.1\r\nHost: a\r\n"+extra+"Content-Length: 1\r\n\r\nx")
			first, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Fatal(err)
			}
			io.Copy(io.Discard, first.Body)
			<-begun
			done := shutDown(f)
			if _, err := idleIn.ReadByte(); err != io.EOF {
				t.Fatal(err) // what is idle has been closed
			}
			close(answer)
			second, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Fatalf("the answer of a request that was made is lost: %v", err)
			}
			if body, err := io.ReadAll(second.Body); err != nil || string(body) != "POST" {
				t.Errorf("second answer: %q, %v", body, err)
			}
			if err := receive(t, done); err != nil {
				t.Error(err)
			}
		})
	}
}

// tellingListener tells what is read of its connections.
type tellingListener struct {
	net.Listener
	read chan string
}

func (l *tellingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &tellingConn{c, l.read}, nil
}

type tellingConn struct {
	net.Conn
	read chan<- string
}

func (c *tellingConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.read <- string(p[:n])
	}
	return n, err
}

// An empty line behind the last request is no beginning of another that a drain would
// wait for; while a request is under way it does not make the connection an idle one.
func TestShutdownDoesNotWaitForEmptyLine(t *testing.T) {
	ln := &tellingListener{listen(t), make(chan string, 100)}
	f := open(t, balance.Config{Mode: bunfile.ModeHTTP, Listener: ln}, balance.WithHeaderTimeout(2*patience), balance.WithKeepAlive(2*patience))
	begun, answer := make(chan struct{}, 1), make(chan struct{})
	f.set(httpBackend(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			begun <- struct{}{}
			<-answer
		}
		io.WriteString(w, "x")
	}))
	emptyLine := func(c net.Conn) {
		io.WriteString(c, "\r\n")
		for got := ""; !strings.HasSuffix(got, "\n"); {
			got = receive(t, ln.read)
		}
	}
	c, in := dialFront(t, f)
	converse(t, c, in, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	receive(t, ln.read)
	emptyLine(c)
	slow, slowIn := dialFront(t, f)
	slow.SetDeadline(time.Now().Add(patience))
	io.WriteString(slow, "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
	receive(t, begun)
	receive(t, ln.read)
	emptyLine(slow)
	done := shutDown(f)
	if _, err := in.ReadByte(); err != io.EOF {
		t.Errorf("the connection is not closed: %v", err)
	}
	close(answer)
	if resp, err := http.ReadResponse(slowIn, nil); err != nil {
		t.Error(err)
	} else if body, err := io.ReadAll(resp.Body); string(body) != "x" {
		t.Errorf("%q, %v", body, err)
	}
	if err := receive(t, done); err != nil {
		t.Error(err)
	}
}

// A connection on which nothing but the handshake of TLS came is a quiet one.
func TestShutdownDoesNotWaitForSilentTLS(t *testing.T) {
	server, client := certified(t)
	f := open(t, balance.Config{Mode: bunfile.ModeHTTP, TLS: server}, balance.WithHeaderTimeout(2*patience))
	f.set(httpBackend(t, says("x")))
	c, err := tls.Dial("tcp", f.Addr().String(), client)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	done := shutDown(f)
	if _, err := c.Read(make([]byte, 1)); err != io.EOF && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the connection is not closed: %v", err)
	}
	if err := receive(t, done); err != nil {
		t.Error(err)
	}
}

// A request that came with the last message of the handshake is under way.
func TestShutdownServesRequestBehindHandshake(t *testing.T) {
	server, client := certified(t)
	begun, answer := make(chan struct{}), make(chan struct{})
	f := open(t, balance.Config{Mode: bunfile.ModeHTTP, TLS: server}, balance.WithIdleQuiet(time.Nanosecond))
	f.set(httpBackend(t, func(w http.ResponseWriter, r *http.Request) {
		close(begun)
		<-answer
		io.WriteString(w, "late")
	}))
	raw := dial(t, f)
	late := &lateWriter{Conn: raw}
	c := tls.Client(late, client)
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	late.together = true
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	<-begun
	silent := dial(t, f)
	done := shutDown(f)
	if _, err := silent.Read(make([]byte, 1)); err != io.EOF {
		t.Fatal(err) // what is fresh has been closed
	}
	close(answer)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "late" {
		t.Errorf("%q, %v", body, err)
	}
	if err := receive(t, done); err != nil {
		t.Error(err)
	}
}

// lateWriter keeps the last message of a client's handshake until there is more to write.
type lateWriter struct {
	net.Conn
	writes   int
	kept     strings.Builder
	together bool
}

func (w *lateWriter) Write(p []byte) (int, error) {
	if w.writes++; w.writes == 1 {
		return w.Conn.Write(p)
	}
	w.kept.Write(p)
	if !w.together {
		return len(p), nil
	}
	_, err := io.WriteString(w.Conn, w.kept.String())
	w.kept.Reset()
	return len(p), err
}

// The last answer of a connection comes whole, also where the client, who cannot know yet
// that it is the last, has sent another request that nobody will read.
func TestShutdownTruncatesNoLastAnswer(t *testing.T) {
	const size = 8 << 20
	for name, extra := range map[string]string{"fast": "", "full": "TE: trailers\r\n"} {
		t.Run(name, func(t *testing.T) {
			f := openHTTP(t)
			asked, answer := make(chan struct{}), make(chan struct{})
			f.set(httpBackend(t, func(w http.ResponseWriter, r *http.Request) {
				close(asked)
				<-answer
				w.Header().Set("Content-Length", strconv.Itoa(size))
				w.Write(make([]byte, size))
			}))
			c, in := dialFront(t, f)
			c.SetDeadline(time.Now().Add(patience))
			io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n"+extra+"\r\n")
			receive(t, asked)
			done := shutDown(f)
			eventually(t, "the listener is closed", func() bool { return refuses(f) })
			close(answer)
			resp, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Fatal(err)
			}
			io.WriteString(c, "GET /next HTTP/1.1\r\nHost: a\r\n\r\n")
			if n, err := io.Copy(io.Discard, resp.Body); n != size || err != nil || !resp.Close {
				t.Errorf("got %d of %d bytes, %v; close %v", n, size, err, resp.Close)
			}
			c.Close()
			if err := receive(t, done); err != nil {
				t.Error(err)
			}
		})
	}
}
