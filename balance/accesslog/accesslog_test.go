package accesslog_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/budgiehq/budgie/balance"
	"github.com/budgiehq/budgie/balance/accesslog"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func source() *balance.Source {
	return &balance.Source{Name: "web", Mode: "http", Addr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 80}}
}

// lines are what a log wrote.
func lines(t *testing.T, b *bytes.Buffer) []map[string]any {
	t.Helper()
	var all []map[string]any
	for text := range strings.Lines(b.String()) {
		var one map[string]any
		if err := json.Unmarshal([]byte(text), &one); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		all = append(all, one)
	}
	return all
}

var began = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func TestLine(t *testing.T) {
	var b bytes.Buffer
	l := accesslog.New(slog.NewJSONHandler(&b, nil), accesslog.WithoutQuery())
	l.Ended(source(), balance.Exchange{
		Backend: balance.Backend{ID: "b0"}, Client: "192.0.2.1:1234", Protocol: "HTTP/1.1",
		Method: "GET", Host: "web.example", Target: "/a?secret", UserAgent: "agent\n\x1b[31m", Referer: strings.Repeat("é", 1000),
		Status: 200, GRPCStatus: -1, Received: 1, Sent: 2, Began: began, Duration: 1500 * time.Microsecond, FirstByte: time.Millisecond, Attempts: 2,
	})
	l.Ended(source(), balance.Exchange{
		Client: "192.0.2.1:1234", Protocol: "HTTP/2.0", Method: "POST", Host: "web.example", Target: "/s/M", GRPC: true, GRPCStatus: 14,
		Status: 200, Began: began, Cause: balance.CauseUnavailable, Err: errors.New("why"),
	})
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(b.String(), "\x1b\x00") {
		t.Errorf("control characters in %q", b.String())
	}
	got := lines(t, &b)
	if len(got) != 2 {
		t.Fatalf("%d lines: %s", len(got), b.String())
	}
	referer, _ := got[0]["referer"].(string)
	if len(referer) > 260 || !strings.HasSuffix(referer, "é…") {
		t.Errorf("referer %q", referer)
	}
	delete(got[0], "referer")
	for i, want := range []map[string]any{
		{
			"time": "2026-01-02T03:04:05.0015Z", "level": "INFO", "msg": "request", "service": "web", "listen": "127.0.0.1:80",
			"client": "192.0.2.1:1234", "protocol": "HTTP/1.1", "method": "GET", "host": "web.example", "target": "/a", "status": 200.0,
			"received_bytes": 1.0, "sent_bytes": 2.0, "duration_ms": 1.5, "first_byte_ms": 1.0, "backend": "b0", "attempts": 2.0, "user_agent": "agent\n\x1b[31m",
		},
		{
			"time": "2026-01-02T03:04:05Z", "level": "WARN", "msg": "request", "service": "web", "listen": "127.0.0.1:80",
			"client": "192.0.2.1:1234", "protocol": "HTTP/2.0", "method": "POST", "host": "web.example", "target": "/s/M", "status": 200.0, "grpc_status": 14.0,
			"received_bytes": 0.0, "sent_bytes": 0.0, "duration_ms": 0.0, "cause": "destination_unavailable", "error": "why",
		},
	} {
		if fmt.Sprint(got[i]) != fmt.Sprint(want) {
			t.Errorf("line %d:\n got %v\nwant %v", i, got[i], want)
		}
	}
}

// blocked is a handler that waits.
type blocked struct {
	slog.Handler
	inside, release chan bool
	once            *sync.Once
}

func (h blocked) Handle(ctx context.Context, r slog.Record) error {
	h.once.Do(func() {
		h.inside <- true
		<-h.release
	})
	return h.Handler.Handle(ctx, r)
}

// Who is told does not wait for who writes; what finds no room is counted, and said.
func TestDrops(t *testing.T) {
	var b bytes.Buffer
	h := blocked{slog.NewJSONHandler(&b, nil), make(chan bool), make(chan bool), new(sync.Once)}
	l := accesslog.New(h, accesslog.WithBuffer(3))
	l.Ended(source(), balance.Exchange{Method: "GET", GRPCStatus: -1})
	<-h.inside
	for range 10 {
		l.Ended(source(), balance.Exchange{Method: "GET", GRPCStatus: -1})
	}
	if l.Dropped() != 7 {
		t.Errorf("%d dropped, want 7", l.Dropped())
	}
	close(h.release)
	l.Close()
	l.Ended(source(), balance.Exchange{}) // too late
	if l.Dropped() != 8 {
		t.Errorf("%d dropped, want 8", l.Dropped())
	}
	requests, dropped := 0, 0.0
	for _, one := range lines(t, &b) {
		if one["msg"] == "request" {
			requests++
		} else {
			dropped += one["lines"].(float64)
		}
	}
	if requests != 4 || dropped != 7 {
		t.Errorf("%d lines of requests, and %v dropped: %s", requests, dropped, b.String())
	}
}

// Of what goes well a part is written, of what fails all.
func TestSample(t *testing.T) {
	var b bytes.Buffer
	l := accesslog.New(slog.NewJSONHandler(&b, nil), accesslog.WithSample(10))
	for range 100 {
		l.Ended(source(), balance.Exchange{Method: "GET", Status: 200, GRPCStatus: -1})
		l.Ended(source(), balance.Exchange{Method: "GET", Status: 500, GRPCStatus: -1})
		l.Ended(source(), balance.Exchange{Method: "GET", Status: 200, GRPCStatus: -1, Cause: balance.CauseIncomplete})
	}
	l.Close()
	well := 0
	got := lines(t, &b)
	for _, one := range got {
		if one["sample"] == 10.0 {
			well++
		}
	}
	if well != 10 || len(got) != 210 {
		t.Errorf("%d lines, %d of them for what went well", len(got), well)
	}
}

// A rate bounds bursts, and what passes over time; what is dropped is said though
// nothing follows.
func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b bytes.Buffer
		l := accesslog.New(slog.NewJSONHandler(&b, nil), accesslog.WithRate(10))
		burst := func() {
			for range 30 {
				l.Ended(source(), balance.Exchange{Method: "GET", Began: time.Now(), GRPCStatus: -1})
			}
		}
		burst()
		time.Sleep(500 * time.Millisecond)
		burst()
		if want := uint64(60 - 15); l.Dropped() != want {
			t.Errorf("%d dropped, want %d", l.Dropped(), want)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if !strings.Contains(b.String(), "access log lines dropped") {
			t.Errorf("nothing said of it: %s", b.String())
		}
		l.Close()
	})
}

func TestOtherModes(t *testing.T) {
	var b bytes.Buffer
	l := accesslog.New(slog.NewTextHandler(&b, nil))
	s := source()
	s.Mode = "tcp"
	l.Ended(s, balance.Exchange{Protocol: "TCP", GRPCStatus: -1})
	u := source()
	u.Mode = balance.ModeUDP
	l.Ended(u, balance.Exchange{Protocol: "UDP", GRPCStatus: -1})
	l.Close()
	if text := b.String(); !strings.Contains(text, "msg=connection") || !strings.Contains(text, "msg=session") || strings.Contains(text, "status=") {
		t.Error(text)
	}
}

// BenchmarkEnded measures what a request pays.
func BenchmarkEnded(b *testing.B) {
	l := accesslog.New(slog.NewTextHandler(&bytes.Buffer{}, &slog.HandlerOptions{Level: slog.LevelError}))
	defer l.Close()
	s, e := source(), balance.Exchange{Method: "GET", Status: 200, GRPCStatus: -1}
	b.ReportAllocs()
	for b.Loop() {
		l.Ended(s, e)
	}
}
