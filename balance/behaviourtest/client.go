package behaviourtest

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"
)

// reply is a response that was read to its end.
type reply struct {
	*http.Response
	body string
}

// String tells of a response in problems.
func (r reply) String() string {
	if r.Response == nil {
		return "no answer"
	}
	return fmt.Sprintf("%d %.100q", r.StatusCode, r.body)
}

// from is the backend that answered, "" if the proxy did.
func (r reply) from() string { return r.Header.Get(backendName) }

// host is what requests are for, unless they say otherwise.
const host = "web.example"

// newRequest makes a request to a proxy.
func (t *T) newRequest(p Proxy, method, target string, body io.Reader) *http.Request {
	scheme := "http://"
	if t.front.OverTLS() {
		scheme = "https://"
	}
	req, err := http.NewRequestWithContext(t.ctx, method, scheme+p.Addr()+target, body)
	if err != nil {
		t.fatalf("making a request: %v", err)
	}
	req.Host = host
	// Go's client would send some requests again by itself.
	req.GetBody = nil
	return req
}

// client is one with connections of its own, which speaks as the front wants.
func (t *T) client() *http.Client {
	protocols := new(http.Protocols)
	names := []string{"http/1.1"}
	switch t.front {
	case H2C:
		protocols.SetUnencryptedHTTP2(true)
	case H2:
		protocols.SetHTTP2(true)
		names = []string{"h2"}
	default:
		protocols.SetHTTP1(true)
	}
	tr := &http.Transport{Protocols: protocols, TLSClientConfig: t.tlsConfig(names...), DisableCompression: true,
		MaxResponseHeaderBytes: 1 << 20, MaxIdleConnsPerHost: 64, ExpectContinueTimeout: patience}
	t.cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: patience,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// try makes a request on a connection of its own and reads the whole response.
func (t *T) try(req *http.Request) (reply, error) { return tryOn(t.client(), req) }

func tryOn(c *http.Client, req *http.Request) (reply, error) {
	resp, err := c.Do(req)
	if err != nil {
		return reply{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return reply{resp, string(body)}, err
}

// do is try for a request that has to be answered.
func (t *T) do(req *http.Request) reply {
	got, err := t.try(req)
	if err != nil {
		t.fatalf("%s %s: %v", req.Method, req.URL.Path, err)
	}
	return got
}

func (t *T) get(p Proxy, target string) reply {
	return t.do(t.newRequest(p, http.MethodGet, target, nil))
}

// open makes a request and returns when the response has begun. It is cut off
// with the case, or by the function that it returns.
func (t *T) open(req *http.Request) (*http.Response, context.CancelFunc) {
	ctx, cancel := context.WithCancel(req.Context())
	t.cleanup(cancel)
	client := t.client()
	client.Timeout = 0
	giveUp := time.AfterFunc(patience, cancel)
	resp, err := client.Do(req.WithContext(ctx))
	giveUp.Stop()
	if err != nil {
		t.fatalf("%s %s: %v", req.Method, req.URL.Path, err)
	}
	end := func() {
		cancel()
		resp.Body.Close() // Go's client may be waiting for more of the request
	}
	t.cleanup(end)
	return resp, end
}

// conn is a client's connection on which bytes are sent as they are.
type conn struct {
	net.Conn
	r *bufio.Reader
}

// dial opens a connection on which nothing waits longer than patience.
func (t *T) dial(p Proxy) *conn {
	c, err := t.tryDial(p)
	if err != nil {
		t.fatalf("connecting: %v", err)
	}
	return c
}

func (t *T) tryDial(p Proxy) (*conn, error) {
	d := net.Dialer{Timeout: patience}
	c, err := d.DialContext(t.ctx, "tcp", p.Addr())
	if err != nil {
		return nil, err
	}
	t.cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	if t.front.OverTLS() {
		name := "http/1.1"
		if t.front.IsHTTP2() {
			name = "h2"
		}
		tc := tls.Client(c, t.tlsConfig(name))
		if err := tc.HandshakeContext(t.ctx); err != nil {
			return nil, err
		}
		c = tc
	}
	return &conn{c, bufio.NewReader(c)}, nil
}

// send writes what a proxy may not want to read.
func (c *conn) send(parts ...string) { io.WriteString(c, strings.Join(parts, "")) }

// closeWrite ends the sending direction.
func (c *conn) closeWrite() error { return c.Conn.(interface{ CloseWrite() error }).CloseWrite() }

// answer reads a response to a method, whole.
func (c *conn) answer(method string) (reply, error) {
	resp, err := http.ReadResponse(c.r, &http.Request{Method: method})
	if err != nil {
		return reply{}, err
	}
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	return reply{resp, string(body)}, err
}

// mustAnswer is answer where one has to come.
func (t *T) mustAnswer(c *conn, method string) reply {
	got, err := c.answer(method)
	if err != nil {
		t.fatalf("reading the response to %s: %v", method, err)
	}
	return got
}

// ends reports whether a connection ends within d, whatever comes before.
func (c *conn) ends(d time.Duration) bool {
	c.SetReadDeadline(time.Now().Add(d))
	_, err := io.Copy(io.Discard, c.r)
	ne, ok := err.(net.Error)
	return !ok || !ne.Timeout()
}

// request is the text of a request without a body.
func request(method, target string, fields ...string) string {
	return method + " " + target + " HTTP/1.1\r\nHost: " + host + "\r\n" + strings.Join(append(fields, "", ""), "\r\n")
}

// isRefused reports whether no connection came about: nobody listens, or will.
func isRefused(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return errors.Is(err, syscall.ECONNREFUSED) || ok && op.Op == "dial" && errors.Is(err, syscall.ECONNRESET)
}
