// Package accesslog writes a structured line for each request that frontends of
// package balance served, by log/slog.
//
// A [Log] is an observer of frontends:
//
//	access := accesslog.New(slog.NewJSONHandler(os.Stdout, nil))
//	defer access.Close()
//	client, err := budgie.New(budgie.WithObserver(access))
//
// # Lines
//
// The message is "request", in mode tcp "connection", in mode udp "session"; the time
// is that of its end. The level is Warn where it failed, or was answered with 500 or
// above, else Info. What does not apply is left out.
//
//   - service, listen: the frontend's name and address.
//   - client: the address that the connection came from.
//   - protocol, method, host, target, user_agent, referer: as the client sent them
//     (RFC 9110, RFC 9112), cut off where they are very long.
//   - status: of the final response; 0 where the client got none. grpc_status: of a
//     call.
//   - received_bytes, sent_bytes: of the bodies from and to the client.
//   - duration_ms, first_byte_ms: from the request to the end, and to the header, of
//     its response.
//   - backend: the id of the one that answered, or was tried last. attempts: where
//     there was more than one.
//   - cause: why it failed, in the words of RFC 9209 section 2.3 where that has one
//     (see [balance.Cause]); error says more.
//   - sample: the line stands for so many.
//
// # Load
//
// Requests never wait for the log: lines wait in a bounded buffer for the one
// goroutine that writes them, and those that find it full are dropped and counted. A
// line "access log lines dropped" says so, as soon as there is room.
package accesslog

import (
	"context"
	"log/slog"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/budgiehq/budgie/balance"
)

// DefaultBuffer is how many lines wait to be written at most, where [WithBuffer] does
// not say. They hold some 4 MiB then, or more where clients send long fields.
const DefaultBuffer = 4096

// How long what clients send is in a line at most, in bytes.
const (
	maxTarget = 2048
	maxField  = 256
)

// Option changes how a Log is made.
type Option func(*Log)

// WithBuffer sets how many lines wait to be written at most, [DefaultBuffer] for 0
// and below.
func WithBuffer(lines int) Option {
	return func(l *Log) {
		if lines > 0 {
			l.lines = make(chan line, lines)
		}
	}
}

// WithSample writes one of n requests that went well; those that failed, or were
// answered with 500 or above, are all written. 1 and below mean all.
func WithSample(n int) Option { return func(l *Log) { l.sample = uint64(max(n, 1)) } }

// WithRate bounds the lines per second, and the burst to as many; those beyond are
// dropped. 0 and below are no bound.
func WithRate(perSecond int) Option { return func(l *Log) { l.rate = float64(max(perSecond, 0)) } }

// WithoutQuery leaves out of targets what follows a question mark, where clients put
// what is nobody's business.
func WithoutQuery() Option { return func(l *Log) { l.noQuery = true } }

// Log is an observer that writes lines. It is made by [New], and needs a Close. All
// methods may be called concurrently.
type Log struct {
	handler slog.Handler
	sample  uint64
	rate    float64
	noQuery bool

	lines   chan line
	well    atomic.Uint64 // requests that went well, for the sample
	dropped atomic.Uint64
	closing chan struct{}
	once    sync.Once
	done    chan struct{}

	mu     sync.Mutex
	tokens float64 // lines that may be written at the time of refill
	refill time.Time
}

type line struct {
	source *balance.Source
	e      balance.Exchange
}

// New returns a log that writes to h, whose Handle is called by one goroutine at a
// time.
func New(h slog.Handler, opts ...Option) *Log {
	l := &Log{handler: h, sample: 1, lines: make(chan line, DefaultBuffer), closing: make(chan struct{}), done: make(chan struct{})}
	for _, o := range opts {
		o(l)
	}
	l.tokens = l.rate
	go l.run()
	return l
}

// Dropped returns how many lines were dropped so far, for want of room or by the
// rate.
func (l *Log) Dropped() uint64 { return l.dropped.Load() }

// Close writes what waits, and returns then. What ends later is dropped. It can be
// called again.
func (l *Log) Close() error {
	l.once.Do(func() { close(l.closing) })
	<-l.done
	return nil
}

// Opened implements [balance.Observer].
func (l *Log) Opened(*balance.Source) {}

// Closed implements [balance.Observer].
func (l *Log) Closed(*balance.Source) {}

// Changed implements [balance.Observer].
func (l *Log) Changed(*balance.Source, balance.BackendChange) {}

// Ended implements [balance.Observer].
func (l *Log) Ended(s *balance.Source, e balance.Exchange) {
	if l.sample > 1 && !failed(e) && (l.well.Add(1)-1)%l.sample != 0 {
		return
	}
	if !l.allowed(e.Began.Add(e.Duration)) {
		l.dropped.Add(1)
		return
	}
	select {
	case <-l.closing:
		l.dropped.Add(1)
		return
	default:
	}
	select {
	case l.lines <- line{s, e}:
	default:
		l.dropped.Add(1)
	}
}

// allowed reports whether the rate lets one more line through.
func (l *Log) allowed(now time.Time) bool {
	if l.rate == 0 {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if passed := now.Sub(l.refill).Seconds(); passed > 0 {
		l.tokens, l.refill = min(l.tokens+passed*l.rate, l.rate), now
	}
	if l.tokens < 1 {
		return false
	}
	l.tokens--
	return true
}

func failed(e balance.Exchange) bool { return e.Cause != balance.CauseNone || e.Status >= 500 }

// tellDropped is how often it is told at most how many lines were dropped.
const tellDropped = time.Second

// run writes lines until Close.
func (l *Log) run() {
	defer close(l.done)
	var told uint64
	var at time.Time
	tell := func() {
		if n := l.dropped.Load(); n > told {
			r := slog.NewRecord(time.Now(), slog.LevelWarn, "access log lines dropped", 0)
			r.AddAttrs(slog.Uint64("lines", n-told))
			l.write(r)
			told, at = n, time.Now()
		}
	}
	// Where nothing follows what was dropped, it is told all the same.
	tick := time.NewTicker(tellDropped)
	defer tick.Stop()
	for {
		select {
		case one := <-l.lines:
			l.write(l.record(one))
			if time.Since(at) >= tellDropped {
				tell()
			}
		case <-tick.C:
			tell()
		case <-l.closing:
			for {
				select {
				case one := <-l.lines:
					l.write(l.record(one))
					continue
				default:
				}
				tell()
				return
			}
		}
	}
}

func (l *Log) write(r slog.Record) {
	if ctx := context.Background(); l.handler.Enabled(ctx, r.Level) {
		_ = l.handler.Handle(ctx, r) // whose stream it is sees that it fails
	}
}

// record makes the line of an exchange.
func (l *Log) record(one line) slog.Record {
	e := one.e
	level, message := slog.LevelInfo, "request"
	switch {
	case one.source.Mode == balance.ModeUDP:
		message = "session"
	case e.Method == "":
		message = "connection"
	}
	if failed(e) {
		level = slog.LevelWarn
	}
	r := slog.NewRecord(e.Began.Add(e.Duration), level, message, 0)
	r.AddAttrs(slog.String("service", one.source.Name), slog.String("listen", one.source.Addr.String()),
		slog.String("client", e.Client), slog.String("protocol", e.Protocol))
	text := func(key, value string, most int) {
		if value != "" {
			r.AddAttrs(slog.String(key, cut(value, most)))
		}
	}
	if e.Method != "" {
		target := e.Target
		if l.noQuery {
			target, _, _ = strings.Cut(target, "?")
		}
		text("method", e.Method, maxField)
		text("host", e.Host, maxField)
		text("target", target, maxTarget)
		r.AddAttrs(slog.Int("status", e.Status))
	}
	if e.GRPCStatus >= 0 {
		r.AddAttrs(slog.Int("grpc_status", e.GRPCStatus))
	}
	r.AddAttrs(slog.Int64("received_bytes", e.Received), slog.Int64("sent_bytes", e.Sent), milliseconds("duration_ms", e.Duration))
	if e.FirstByte > 0 {
		r.AddAttrs(milliseconds("first_byte_ms", e.FirstByte))
	}
	text("backend", e.Backend.ID, maxField)
	if e.Attempts > 1 {
		r.AddAttrs(slog.Int("attempts", e.Attempts))
	}
	text("user_agent", e.UserAgent, maxField)
	text("referer", e.Referer, maxField)
	text("cause", string(e.Cause), maxField)
	if e.Err != nil {
		text("error", e.Err.Error(), maxTarget)
	}
	if l.sample > 1 && !failed(e) {
		r.AddAttrs(slog.Uint64("sample", l.sample))
	}
	return r
}

// milliseconds are exact to the microsecond.
func milliseconds(key string, d time.Duration) slog.Attr {
	return slog.Float64(key, math.Round(float64(d)/float64(time.Microsecond))/1000)
}

// cut bounds what clients send.
func cut(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
