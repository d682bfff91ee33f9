package behaviourtest

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"
)

// backend is a server that speaks HTTP/1.1 and h2c.
type backend struct {
	addr   string
	server *http.Server
}

// kill closes the listener and all connections.
func (b *backend) kill() { b.server.Close() }

// backendName is the field in which backends say who they are.
const backendName = "X-Backend"

// backend starts a server of the suite.
func (t *T) backend(name string, h http.HandlerFunc) *backend {
	ln := t.listen()
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	var wg sync.WaitGroup
	handler := func(w http.ResponseWriter, r *http.Request) {
		wg.Add(1)
		defer wg.Done()
		w.Header().Set(backendName, name)
		h(w, r)
	}
	s := &http.Server{Handler: http.HandlerFunc(handler), Protocols: protocols, MaxHeaderBytes: 1 << 20, ErrorLog: log.New(io.Discard, "", 0)}
	served := make(chan struct{})
	go func() {
		defer close(served)
		s.Serve(ln)
	}()
	t.cleanup(func() {
		s.Close()
		<-served
		ended := make(chan struct{})
		go func() { wg.Wait(); close(ended) }()
		select {
		case <-ended:
		case <-time.After(patience):
			t.errorf("a request at backend %s has no end, though the proxy has stopped", name)
		}
	})
	return &backend{ln.Addr().String(), s}
}

// says answers with a text, whatever the request.
func says(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		io.WriteString(w, text)
	}
}

// echoes answers with the body of the request.
func echoes(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) }

func (t *T) listen() *net.TCPListener {
	ln, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.fatalf("listening: %v", err)
	}
	t.cleanup(func() { ln.Close() })
	return ln
}

// dead is an address at which nobody listens.
func (t *T) dead() string {
	ln := t.listen()
	ln.Close()
	return ln.Addr().String()
}

// raw serves every connection by fn, which is told its number, and returns the
// address. Connections end when fn does, and with the case.
func (t *T) raw(fn func(n int, c *net.TCPConn)) string {
	ln := t.listen()
	var wg sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	wg.Go(func() {
		for n := 0; ; n++ {
			c, err := ln.AcceptTCP()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
			wg.Go(func() {
				defer c.Close()
				fn(n, c)
			})
		}
	})
	t.cleanup(func() {
		ln.Close()
		mu.Lock()
		for _, c := range conns {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return ln.Addr().String()
}

// readRequest takes one request off a connection, its body included.
func readRequest(r *bufio.Reader) (*http.Request, []byte, error) {
	req, err := http.ReadRequest(r)
	if err != nil {
		return nil, nil, err
	}
	body, err := io.ReadAll(req.Body)
	return req, body, err
}

// readHead takes bytes off a connection up to the end of a request's header.
func readHead(r *bufio.Reader) ([]byte, error) {
	var head bytes.Buffer
	for {
		line, err := r.ReadBytes('\n')
		head.Write(line)
		if err != nil {
			return head.Bytes(), err
		}
		if len(bytes.TrimRight(line, "\r\n")) == 0 {
			return head.Bytes(), nil
		}
		if head.Len() > 1<<20 {
			return head.Bytes(), errors.New("endless header")
		}
	}
}

// answering is a raw backend that reads a request and writes an answer, as often
// as it is asked on a connection, or once where that is to close.
func answering(answer string, once bool) func(int, *net.TCPConn) {
	return func(_ int, c *net.TCPConn) {
		r := bufio.NewReader(c)
		for {
			if _, _, err := readRequest(r); err != nil {
				return
			}
			if _, err := io.WriteString(c, answer); err != nil || once {
				return
			}
		}
	}
}
