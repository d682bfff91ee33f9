//go:build linux

package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/budgiehq/budgie/balance"
	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/internal/recent"
)

// What a process of this program is to be, where it listens, and what is behind it.
const (
	roleVariable     = "BUDGIE_BENCH_ROLE"
	listenVariable   = "BUDGIE_BENCH_LISTEN"
	backendsVariable = "BUDGIE_BENCH_BACKENDS"
)

const (
	roleHTTP         = "http"
	roleTCP          = "tcp"
	roleIdle         = "idle"
	roleReverseProxy = "reverseproxy"
)

// play is a proxy until it is told to end.
func play(role string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	addr, backends := os.Getenv(listenVariable), strings.Split(os.Getenv(backendsVariable), ",")
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	switch role {
	case roleReverseProxy:
		return bareProxy(ctx, ln, backends)
	case roleHTTP:
		return budgie(ctx, balance.Config{Listener: ln, Mode: bunfile.ModeHTTP}, backends)
	case roleTCP:
		return budgie(ctx, balance.Config{Listener: ln, Mode: bunfile.ModeTCP}, backends)
	case roleIdle:
		return budgie(ctx, balance.Config{Listener: ln, Mode: bunfile.ModeHTTP, Check: &balance.Check{Path: "/1k"}}, backends)
	}
	return fmt.Errorf("there is no role %q", role)
}

// budgie serves as published ports are served: with an observer that counts.
func budgie(ctx context.Context, cfg balance.Config, addrs []string) error {
	cfg.Name, cfg.Observer = "bench", &meter{}
	f, err := balance.New().Listen(ctx, cfg)
	if err != nil {
		return err
	}
	var backends []balance.Backend
	for i, a := range addrs {
		backends = append(backends, balance.Backend{ID: fmt.Sprint(i), Addr: a})
	}
	f.Update(backends)
	<-ctx.Done()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	return f.Shutdown(ctx)
}

// meter counts as the root package does for `budgie top`.
type meter struct{ recent.Meter }

func (m *meter) Opened(*balance.Source)                         {}
func (m *meter) Closed(*balance.Source)                         {}
func (m *meter) Changed(*balance.Source, balance.BackendChange) {}
func (m *meter) Ended(_ *balance.Source, e balance.Exchange) {
	m.Add(e.FirstByte, e.Status >= 500 || e.Cause != balance.CauseNone && e.Cause != balance.CauseClient, e.Shed())
}

// bareProxy is httputil.ReverseProxy with as little around it as works: backends in
// turn, and enough kept-alive connections to them.
func bareProxy(ctx context.Context, ln net.Listener, backends []string) error {
	var turn atomic.Uint64
	targets := make([]*url.URL, len(backends))
	for i, b := range backends {
		targets[i] = &url.URL{Scheme: "http", Host: b}
	}
	server := &http.Server{Handler: &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(targets[turn.Add(1)%uint64(len(targets))])
			r.SetXForwarded()
		},
		Transport: &http.Transport{MaxIdleConnsPerHost: 1024, DisableCompression: true},
	}}
	defer context.AfterFunc(ctx, func() { server.Close() })()
	if err := server.Serve(ln); ctx.Err() == nil {
		return err
	}
	return nil
}
