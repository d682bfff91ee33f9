//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	budgielib "github.com/budgiehq/budgie"
	"github.com/budgiehq/budgie/balance"
	"github.com/budgiehq/budgie/balance/behaviourtest"
	"github.com/budgiehq/budgie/bunfile"
)

// frontend is one of Budgie's, in this process.
type frontend struct{ balance.Frontend }

func (f frontend) Addr() string { return f.Frontend.Addr().String() }

func (f frontend) Update(addrs []string) error {
	var backends []balance.Backend
	for _, a := range addrs {
		backends = append(backends, balance.Backend{ID: a, Addr: a})
	}
	f.Frontend.Update(backends)
	return nil
}

func (f frontend) Stop() {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	f.Shutdown(ended)
}

// budgie is package balance as it comes. The bounds are its own, but for that of
// answers, of which the default is minutes.
func budgie() contender {
	s := behaviourtest.Subject{Header: 10 * time.Second, Stall: time.Minute, Response: impatience}
	s.Start = func(ctx context.Context, setup behaviourtest.Setup) (behaviourtest.Proxy, error) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		cfg := balance.Config{Name: "web", Listener: ln, Mode: bunfile.ModeHTTP}
		if setup.Front.OverTLS() {
			cfg.TLS = &tls.Config{Certificates: []tls.Certificate{setup.Certificate}}
		}
		if setup.H2CBackends {
			cfg.Protocol = bunfile.ProtocolH2C
		}
		if c := setup.Check; c != nil {
			cfg.Check = &balance.Check{Path: c.Path, Interval: c.Interval, Timeout: c.Timeout, Fall: c.Fall}
		}
		var opts []balance.Option
		if setup.Impatient {
			opts = append(opts, balance.WithResponseTimeout(s.Response))
		}
		f, err := balance.New(opts...).Listen(ctx, cfg)
		if err != nil {
			ln.Close()
			return nil, err
		}
		front := frontend{f}
		return front, front.Update(setup.Backends)
	}
	return contender{"Budgie", func(context.Context) string { return "Budgie " + budgielib.Version }, s}
}

// programVersion returns the last word of what a program says of its version,
// wherever it says that.
func programVersion(ctx context.Context, name, arg string) string {
	path, err := absolute(name)
	if err != nil {
		path = name
	}
	out, err := exec.CommandContext(ctx, path, arg).CombinedOutput()
	line, _, _ := bytes.Cut(out, []byte("\n"))
	if err != nil || len(line) == 0 {
		return "of an unknown version"
	}
	words := strings.Fields(string(line))
	if strings.HasPrefix(words[0], "v") {
		return words[0]
	}
	return words[len(words)-1]
}

// absolute is the path of a program, which may be given as one of the repository.
func absolute(name string) (string, error) {
	if !strings.Contains(name, "/") {
		return exec.LookPath(name)
	}
	return filepath.Abs(name)
}
