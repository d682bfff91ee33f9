package balance

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/budgiehq/budgie/bunfile"
)

// What a backend may answer to a probe, and what is made of it.
func TestHTTPProbe(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab" // it need not be whole
	for _, c := range []struct{ what, answer, want string }{
		{"an answer", ok, ""},
		{"an answer of HTTP/1.0", "HTTP/1.0 204 No Content\r\n\r\n", ""},
		{"a redirection", "HTTP/1.1 302 Found\r\nLocation: http://192.0.2.1/\r\n\r\n", ""},
		{"an error", "HTTP/1.1 404 Not Found\r\n\r\n", "status 404"},
		{"another protocol", "HTTP/1.1 101 Switching Protocols\r\n\r\n", "status 101"},
		{"interim answers before", strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", 5) + ok, ""},
		{"interim answers without end", strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 1000), "interim answers alone"},
		{"a header without end", "HTTP/1.1 200 OK\r\n" + strings.Repeat("A: "+strings.Repeat("a", 1000)+"\r\n", 100), "more than 65536 bytes"},
		{"a header that breaks off", "HTTP/1.1 200 OK\r\nA: b", "breaks off"},
		{"rubbish", "220 mail.example ESMTP\r\n", "malformed HTTP"},
	} {
		t.Run(c.what, func(t *testing.T) {
			asked := make(chan string, 1)
			probe := probeOf(func(conn net.Conn) {
				req, err := http.ReadRequest(bufio.NewReader(conn))
				if err != nil {
					asked <- err.Error()
					return
				}
				asked <- req.Method + " " + req.Host + req.URL.Path + " " + req.Header.Get("Connection") + " " + req.UserAgent()
				_, _ = io.WriteString(conn, c.answer) // the prober may have had enough
			})
			err := probe(t.Context(), "backend:80")
			if got := <-asked; got != "GET backend:80/health close budgie-health-check" {
				t.Errorf("asked for %q", got)
			}
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "/health")) {
				t.Errorf("err = %v, want %q", err, c.want)
			}
		})
	}
}

// A backend that does not answer has its time, and no more; where the check ends
// before, nobody waits for it.
func TestHTTPProbeOfHangingBackends(t *testing.T) {
	for what, hang := range map[string]func(net.Conn){
		"reads nothing": func(net.Conn) {},
		"answers nothing": func(c net.Conn) {
			_, _ = io.Copy(io.Discard, c)
		},
		"sends half a header": func(c net.Conn) {
			go func() { _, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nA: ") }()
			_, _ = io.Copy(io.Discard, c)
		},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				over := make(chan struct{})
				probe := probeOf(func(c net.Conn) { hang(c); <-over })
				began := time.Now()
				err := probe(t.Context(), "backend:80")
				if took := time.Since(began); !errors.Is(err, context.DeadlineExceeded) || took != time.Second {
					t.Errorf("after %v: %v", took, err)
				}
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(time.Second/2, cancel)
				began = time.Now()
				err = probe(ctx, "backend:80")
				if took := time.Since(began); !errors.Is(err, context.Canceled) || took != time.Second/2 {
					t.Errorf("cancelled, after %v: %v", took, err)
				}
				close(over)
			})
		})
	}
}

// probeOf returns the probe of a check, with a second for an answer, where connections
// lead to serve.
func probeOf(serve func(net.Conn)) func(context.Context, string) error {
	cfg := Config{Mode: bunfile.ModeHTTP, Dial: pipesTo(serve)}
	return proberFor(cfg, Check{Path: "/health", Timeout: time.Second}, connector(cfg))
}

// pipesTo connects with serve, by a pipe in memory.
func pipesTo(serve func(net.Conn)) func(context.Context, string) (net.Conn, error) {
	return func(context.Context, string) (net.Conn, error) {
		mine, theirs := net.Pipe()
		go func() {
			defer theirs.Close()
			serve(theirs)
		}()
		return mine, nil
	}
}
