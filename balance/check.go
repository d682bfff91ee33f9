package balance

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
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
		if cfg.Protocol == bunfile.ProtocolH2C {
			return httpProbe(c, askH2C(connect))
		}
		return httpProbe(c, askHTTP1(connect))
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
func httpProbe(c Check, ask func(*http.Request) (status int, err error)) func(context.Context, string) error {
	return func(ctx context.Context, addr string) error {
		ctx, cancel := context.WithTimeout(ctx, c.Timeout)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+c.Path, nil)
		if err != nil {
			return fmt.Errorf("health check: %w", err)
		}
		req.Header.Set("User-Agent", "budgie-health-check")
		req.Close = true
		status, err := ask(req)
		if err != nil {
			return fmt.Errorf("health check of %s: %w", c.Path, err)
		}
		if status < 200 || status > 399 {
			return fmt.Errorf("health check of %s: status %d", c.Path, status)
		}
		return nil
	}
}

const (
	// probeHeader is how many bytes the header of a probe's answer may have.
	probeHeader = 64 << 10
	// mostInterim is how many interim answers may come before it.
	mostInterim = 5
)

// askHTTP1 asks by HTTP/1.1 without the goroutines of an http.Transport: a node with
// many backends does little else while it is idle.
func askHTTP1(connect func(context.Context, string) (net.Conn, error)) func(*http.Request) (int, error) {
	return func(req *http.Request) (status int, err error) {
		conn, err := connect(req.Context(), req.URL.Host)
		if err != nil {
			return 0, err
		}
		defer conn.Close()
		defer context.AfterFunc(req.Context(), func() { conn.Close() })()
		defer func() {
			if req.Context().Err() != nil && err != nil {
				err = context.Cause(req.Context())
			}
		}()
		if err := req.Write(conn); err != nil {
			return 0, err
		}
		r := bufio.NewReader(io.LimitReader(conn, probeHeader))
		for interim := 0; ; interim++ {
			resp, err := http.ReadResponse(r, req)
			switch {
			case errors.Is(err, io.ErrUnexpectedEOF):
				return 0, fmt.Errorf("the header of the answer breaks off, or has more than %d bytes", probeHeader)
			case err != nil:
				return 0, err
			case resp.StatusCode >= 200 || resp.StatusCode == http.StatusSwitchingProtocols:
				return resp.StatusCode, nil
			case interim == mostInterim:
				return 0, errors.New("it sends interim answers alone")
			}
		}
	}
}

// askH2C asks by HTTP/2 without TLS.
func askH2C(connect func(context.Context, string) (net.Conn, error)) func(*http.Request) (int, error) {
	tr := &http.Transport{
		DialContext:            func(ctx context.Context, _, addr string) (net.Conn, error) { return connect(ctx, addr) },
		DisableKeepAlives:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: probeHeader,
		Protocols:              onlyH2C(),
	}
	return func(req *http.Request) (int, error) {
		resp, err := tr.RoundTrip(req)
		if err != nil {
			return 0, err
		}
		return resp.StatusCode, resp.Body.Close()
	}
}
