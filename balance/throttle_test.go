package balance_test

import (
	"net"
	"net/http"
	"strings"
	"testing"
)

// Clients that nobody can serve do not fill the log, however many they are.
func TestRefusalsDoNotFillTheLog(t *testing.T) {
	web, tcp := openHTTP(t), openTCP(t)
	for range 50 {
		resp, err := http.Get(web.url("/"))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		c, err := net.Dial("tcp", tcp.Addr().String())
		if err != nil {
			continue // it is reset already
		}
		_, _ = c.Read(make([]byte, 1)) // it is reset
		c.Close()
	}
	http.DefaultClient.CloseIdleConnections()
	for _, f := range []*front{web, tcp} {
		f.log.mu.Lock()
		if n := strings.Count(f.log.b.String(), "level=WARN"); n != 1 {
			t.Errorf("there are %d warnings, want 1: %s", n, f.log.b.String())
		}
		f.log.mu.Unlock()
	}
}
