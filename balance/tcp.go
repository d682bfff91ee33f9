package balance

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// tcpTraffic is the TCP mode: each connection is copied to one of a backend.
type tcpTraffic struct {
	f      *frontend
	wg     sync.WaitGroup
	pieces pieces
}

func newTCPTraffic(f *frontend) *tcpTraffic { return &tcpTraffic{f: f} }

func (t *tcpTraffic) serve(d *door) {
	t.f.acceptAll(d, func(c *clientConn) {
		c.busy() // a connection under way is never merely quiet
		t.wg.Go(func() {
			defer c.ended()
			t.forward(c)
		})
	})
}

// left has nothing to do: no connection is kept.
func (t *tcpTraffic) left() {}

func (t *tcpTraffic) stop() { t.wg.Wait() }

// forward serves one connection.
func (t *tcpTraffic) forward(client *clientConn) {
	e := Exchange{Client: client.RemoteAddr().String(), Protocol: "TCP", GRPCStatus: -1, Began: time.Now()}
	if t.f.witness != nil {
		defer func() {
			e.Duration = time.Since(e.Began)
			t.f.witness.Ended(t.f.witness.source, e)
		}()
	}
	m, backend := t.connect(client, &e)
	if m == nil {
		abortConn(client)
		return
	}
	e.FirstByte = time.Since(e.Began)
	t.f.dials.add(backend)
	defer t.f.dials.remove(backend)
	p := &pipe{client: client.Conn, backend: backend, halfOpen: t.f.limits.halfOpen, pieces: &t.pieces}
	err := p.run()
	res := result{answered: true}
	switch {
	case p.backendFailed && t.f.ctx.Err() == nil:
		res.err = err
		t.f.log.Info("backend broke a connection off before it sent anything",
			"backend", m.backend.ID, "addr", m.backend.Addr, "err", err)
	case p.down.Load() > 0, p.up.Load() > 0 && err == nil:
		t.f.pool.served(m, e.Began.Add(e.FirstByte))
	}
	t.f.pool.release(m, res)
	e.Received, e.Sent = p.up.Load(), p.down.Load()
	switch {
	case res.err != nil:
		e.Cause, e.Err = CauseTerminated, res.err
	case err != nil && t.f.ctx.Err() != nil:
		e.Cause, e.Err = CauseCutOff, err
	}
	t.f.log.Debug("connection", "client", e.Client, "backend", m.backend.ID,
		"sent", e.Received, "received", e.Sent, "duration", time.Since(e.Began), "err", err)
}

// connect dials backends until one accepts; the client has sent nothing to any
// of them by then, so all of them may be tried. It fills in what it finds out.
func (t *tcpTraffic) connect(client *clientConn, e *Exchange) (*member, net.Conn) {
	var tried []*member
	last, key := ErrNoBackend, t.f.keys.ofConn(client)
	for len(tried) < maxAttempts {
		m, err := t.f.pool.acquire(t.f.ctx, tried, key)
		if err != nil {
			last = err
		}
		if m == nil {
			break
		}
		e.Attempts, e.Backend = len(tried)+1, m.identity()
		began := time.Now()
		c, err := t.f.dial(context.Background(), m.backend.Addr)
		if err == nil {
			t.f.pool.connected(m, time.Since(began))
			return m, c
		}
		if t.f.ctx.Err() != nil {
			t.f.pool.release(m, result{})
			e.Cause, e.Err = CauseCutOff, err
			return nil, nil
		}
		last = err
		var de *dialError
		ours := errors.As(err, &de) && de.ours
		t.f.pool.release(m, result{err: err, fatal: !ours, unreachable: !ours, blameless: ours})
		tried = append(tried, m)
	}
	e.Err = last
	switch {
	case errors.Is(last, errShed):
		e.Cause = CauseLimit
	case t.f.ctx.Err() != nil:
		e.Cause = CauseCutOff
	case len(tried) == 0:
		e.Cause = CauseUnavailable
	default:
		e.Cause = CauseRefused
	}
	if n, ok := t.f.refused.next(time.Now()); ok {
		t.f.log.Warn("connections refused: no backend could take them", "client", client.RemoteAddr().String(),
			"connections", n, "attempts", len(tried), "err", last)
	}
	return nil, nil
}

// pipe copies between two connections until both directions have ended.
type pipe struct {
	client, backend net.Conn
	halfOpen        time.Duration
	pieces          *pieces
	// The ways to read and write them, nil for what is no TCP.
	ofClient, ofBackend *rawIO
	up, down            atomic.Int64 // bytes
	ended               atomic.Int32 // directions that came to their end

	once          sync.Once
	err           error
	backendFailed bool // the backend broke off without having sent a byte
}

// run returns the first error.
func (p *pipe) run() error {
	p.ofClient, p.ofBackend = newRawIO(p.client), newRawIO(p.backend)
	var wg sync.WaitGroup
	wg.Go(func() { p.direction(p.backend, p.client, &p.up) })
	p.direction(p.client, p.backend, &p.down)
	wg.Wait()
	p.client.Close()
	p.backend.Close()
	return p.err
}

// direction copies from src to dst. The end of src's stream is passed on as
// such; the other direction then has halfOpen to say something, again and again,
// since its peer may be gone for good and nobody would notice. Any error ends
// both directions, by a reset at both ends.
func (p *pipe) direction(dst, src net.Conn, count *atomic.Int64) {
	for {
		n, err := p.copy(dst, src)
		count.Add(n)
		switch {
		case err == nil:
			p.end(dst)
			return
		case isTimeout(err) && n > 0 && p.ended.Load() > 0:
			src.SetReadDeadline(time.Now().Add(p.halfOpen))
		default:
			// Where nothing was received the error is the backend's, unless that is
			// because the client takes nothing.
			_, writing := errors.AsType[writeError](err)
			p.fail(err, src == p.backend && count.Load() == 0 && !writing && !errors.Is(err, net.ErrClosed) && !isTimeout(err))
			return
		}
	}
}

// end passes the end of a stream on to dst.
func (p *pipe) end(dst net.Conn) {
	if p.ended.Add(1) == 2 {
		return // both are about to be closed
	}
	if cw, ok := dst.(interface{ CloseWrite() error }); ok {
		cw.CloseWrite()
	}
	dst.SetReadDeadline(time.Now().Add(p.halfOpen))
}

func (p *pipe) fail(err error, backend bool) {
	p.once.Do(func() { p.err, p.backendFailed = err, backend })
	abortConn(p.client)
	abortConn(p.backend)
}
