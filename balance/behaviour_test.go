package balance_test

import (
	"context"
	"crypto/tls"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/budgiehq/budgie/balance"
	"github.com/budgiehq/budgie/balance/behaviourtest"
	"github.com/budgiehq/budgie/bunfile"
)

// behaving is a frontend as the suite of behaviour wants it.
type behaving struct{ balance.Frontend }

func (b behaving) Addr() string { return b.Frontend.Addr().String() }

func (b behaving) Update(addrs []string) error {
	var backends []balance.Backend
	for _, a := range addrs {
		backends = append(backends, balance.Backend{ID: a, Addr: a})
	}
	b.Frontend.Update(backends)
	return nil
}

func (b behaving) Stop() {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	b.Shutdown(ended)
}

// behaviour is the suite's subject: frontends of mode HTTP with more options.
func behaviour(more ...balance.Option) behaviourtest.Subject {
	s := behaviourtest.Subject{Header: time.Second, Stall: time.Second, Response: time.Second}
	s.Start = func(ctx context.Context, setup behaviourtest.Setup) (behaviourtest.Proxy, error) {
		// As published ports are listened on: the kernel can be told to hold newcomers
		// off while such a listener is closed.
		var lc net.ListenConfig
		lc.SetMultipathTCP(false)
		ln, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
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
		opts := slices.Clone(more)
		if setup.Impatient {
			opts = append(opts, balance.WithHeaderTimeout(s.Header), balance.WithStall(s.Stall), balance.WithResponseTimeout(s.Response))
		}
		f, err := balance.New(opts...).Listen(ctx, cfg)
		if err != nil {
			ln.Close()
			return nil, err
		}
		b := behaving{f}
		return b, b.Update(setup.Backends)
	}
	return s
}

func TestBehaviour(t *testing.T) { behaviourtest.Test(t, behaviour(), nil) }

// The fast path takes what is plain over HTTP/1.1. Here nothing is.
func TestBehaviourWithoutFastPath(t *testing.T) {
	behaviourtest.Test(t, behaviour(balance.WithoutFastPath()), nil, behaviourtest.HTTP1)
}
