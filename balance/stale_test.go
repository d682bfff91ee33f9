package balance_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A request that may be repeated is answered by a backend that was restarted, however
// many connections to the old one are kept.
func TestManyStaleConnections(t *testing.T) {
	for name, request := range map[string]string{
		"GET":            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
		"PUT":            "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody",
		"GET, not plain": "GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n",
		"PUT, not plain": "PUT / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nContent-Length: 4\r\n\r\nbody",
		"PUT, in chunks": "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			const many = 6
			var restarted atomic.Bool
			var together sync.WaitGroup // all connections are in use at once
			together.Add(many)
			f := openHTTP(t)
			f.set(rawBackend(t, func(n int, c *net.TCPConn) {
				for in := bufio.NewReader(c); ; {
					r, err := http.ReadRequest(in)
					if err != nil {
						return
					}
					if n < many && restarted.Load() {
						c.SetLinger(0)
						return
					}
					io.Copy(io.Discard, r.Body)
					if n < many {
						together.Done()
						together.Wait()
					}
					io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
				}
			}))
			ask := func() {
				c, in := dialFront(t, f)
				c.SetDeadline(time.Now().Add(patience))
				io.WriteString(c, request)
				resp, err := http.ReadResponse(in, nil)
				if err != nil {
					t.Error(err)
				} else if resp.StatusCode != http.StatusOK {
					t.Errorf("answered %d", resp.StatusCode)
				}
			}
			var wg sync.WaitGroup
			for range many {
				wg.Go(ask)
			}
			wg.Wait()
			eventually(t, "the connections are kept", func() bool { return f.Status()[0].Active == 0 })
			restarted.Store(true)
			ask()
		})
	}
}
