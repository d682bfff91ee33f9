package balancetest

import (
	"context"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/budgiehq/budgie/balance"
	"github.com/budgiehq/budgie/bunfile"
)

// testDial: backends whose addresses mean nothing to the network are connected to
// as the configuration says, for traffic and for probes.
func testDial(t *testing.T, b Balancer) {
	const suffix = ".elsewhere.invalid:80"
	for _, mode := range []bunfile.BalanceMode{bunfile.ModeHTTP, bunfile.ModeTCP} {
		t.Run(string(mode), func(t *testing.T) {
			var to balance.Backend
			if mode == bunfile.ModeHTTP {
				to = newHTTP(t, "a").backend("a")
			} else {
				to = newEcho(t)
			}
			strange := make(chan string, 100)
			cfg := balance.Config{
				Name: "web", Listener: listen(t), Mode: mode, Check: &balance.Check{Path: "/"},
				Dial: func(ctx context.Context, addr string) (net.Conn, error) {
					if name, ok := strings.CutSuffix(addr, suffix); !ok || name != "somewhere" {
						strange <- addr
					}
					var d net.Dialer
					return d.DialContext(ctx, "tcp", to.Addr)
				},
			}
			f, err := b.Listen(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			shutdownLater(t, f)
			f.Update([]balance.Backend{{ID: "a", Addr: "somewhere" + suffix}})
			if mode == bunfile.ModeHTTP {
				if status, body := get(t, f, "/"); status != 200 || body != "a" {
					t.Errorf("got %d, %q", status, body)
				}
			} else {
				c := dial(t, f)
				if _, err := c.Write([]byte("hello")); err != nil {
					t.Fatal(err)
				}
				if err := c.(*net.TCPConn).CloseWrite(); err != nil {
					t.Fatal(err)
				}
				if got, err := io.ReadAll(c); err != nil || string(got) != "hello, and goodbye" {
					t.Errorf("got %q, %v", got, err)
				}
			}
			select {
			case addr := <-strange:
				t.Errorf("asked to connect to %q", addr)
			default:
			}
		})
	}
}
