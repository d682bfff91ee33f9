package balance

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/budgiehq/budgie/bunfile"
)

// watchHealth probes a member at once and then at every interval until ctx ends.
func watchHealth(ctx context.Context, p *pool, m *member, every time.Duration, probe func(context.Context, string) error) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		err := probe(ctx, m.backend.Addr)
		if ctx.Err() != nil {
			return
		}
		p.probed(m, err)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// proberFor returns the probe of a check: a request in HTTP mode where it has a
// path, a connection elsewhere.
func proberFor(cfg Config, c Check, connect func(context.Context, string) (net.Conn, error)) func(context.Context, string) error {
	if cfg.Mode == bunfile.ModeHTTP && c.Path != "" {
		protocols := http1Only()
		if cfg.Protocol == bunfile.ProtocolH2C {
			protocols = onlyH2C()
		}
		return httpProbe(c, protocols, connect)
	}
	return tcpProbe(c, connect)
}

func tcpProbe(c Check, connect func(context.Context, string) (net.Conn, error)) func(context.Context, string) error {
	return func(ctx context.Context, addr string) error {
		ctx, cancel := context.WithTimeout(ctx, c.Timeout)
		defer cancel()
		conn, err := connect(ctx, addr)
		if err != nil {
			return fmt.Errorf("health check: %w", err)
		}
		conn.Close()
		return nil
	}
}

// httpProbe asks on a connection of its own each time, so that a server that
// takes no new ones is not called healthy. Redirections count as answers and
// are not followed: they may lead anywhere.
func httpProbe(c Check, protocols *http.Protocols, connect func(context.Context, string) (net.Conn, error)) func(context.Context, string) error {
	tr := &http.Transport{
		DialContext:            func(ctx context.Context, _, addr string) (net.Conn, error) { return connect(ctx, addr) },
		DisableKeepAlives:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: 64 << 10,
		Protocols:              protocols,
	}
	return func(ctx context.Context, addr string) error {
		ctx, cancel := context.WithTimeout(ctx, c.Timeout)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+c.Path, nil)
		if err != nil {
			return fmt.Errorf("health check: %w", err)
		}
		req.Header.Set("User-Agent", "budgie-health-check")
		resp, err := tr.RoundTrip(req)
		if err != nil {
			return fmt.Errorf("health check of %s: %w", c.Path, err)
		}
		resp.Body.Close()
		if resp.StatusCode < 200 || resp.StatusCode > 399 {
			return fmt.Errorf("health check of %s: status %d", c.Path, resp.StatusCode)
		}
		return nil
	}
}
