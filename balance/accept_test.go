package balance_test

import (
	"net"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/budgiehq/budgie/balance"
	"github.com/budgiehq/budgie/bunfile"
)

// shortListener is one that finds the machine short of memory some times.
type shortListener struct {
	net.Listener
	times atomic.Int32
}

func (l *shortListener) Accept() (net.Conn, error) {
	if l.times.Add(-1) >= 0 {
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", syscall.ENOMEM)}
	}
	return l.Listener.Accept()
}

// That no connection can be accepted for a moment ends no frontend.
func TestAcceptingGoesOnAfterFailures(t *testing.T) {
	server, client := certified(t)
	for name, cfg := range map[string]balance.Config{
		"plain": {Mode: bunfile.ModeHTTP},
		"TLS":   {Mode: bunfile.ModeHTTP, TLS: server},
		"hash":  {Mode: bunfile.ModeHTTP, Algorithm: bunfile.ConsistentHash, Hash: bunfile.Hash{Header: "X-User"}},
	} {
		t.Run(name, func(t *testing.T) {
			ln := &shortListener{Listener: listen(t)}
			ln.times.Store(2)
			cfg.Listener = ln
			f := open(t, cfg)
			f.set(httpBackend(t, says("ok")))
			url, c := f.url("/"), newClient(t)
			if cfg.TLS != nil {
				url, c = strings.Replace(url, "http:", "https:", 1), tlsClient(t, client, false)
			}
			resp, err := c.Get(url)
			if err != nil {
				t.Fatalf("%v\n%s", err, f.log)
			}
			resp.Body.Close()
			if !f.log.has("accepting a connection failed", syscall.ENOMEM.Error()) {
				t.Errorf("the failure is not in the log:\n%s", f.log)
			}
		})
	}
}
