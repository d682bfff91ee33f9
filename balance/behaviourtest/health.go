package behaviourtest

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"
)

// healthCases are about which backends are asked.
func healthCases() []Case {
	return []Case{
		{"health", "one that refuses", "a backend that is gone costs no request, and leaves rotation within 3 s", all(), deadRefuses},
		{"health", "one that hangs", "a backend that no longer answers leaves rotation within 3 s", all(), deadHangs},
		{"health", "return", "a backend whose checks succeed again is asked again within 3 s", over1(), comesBack},
		{"health", "one bad probe", "a probe that fails now and then takes no backend out", over1(), oneBadProbe},
		{"health", "checks fail, requests do not", "where every backend fails its checks those that answer are asked all the same", over1(), neverEmpty},
		{"health", "turn by turn", "requests are spread evenly over the backends", all(), spread},
	}
}

// checked is a health check as one would have it between machines.
func checked() *Check {
	return &Check{Path: "/up", Interval: 600 * time.Millisecond, Timeout: 600 * time.Millisecond, Fall: 3}
}

// patient is a request that is given up soon.
func (t *T) within(d time.Duration, req *http.Request) (reply, error) {
	ctx, cancel := context.WithTimeout(req.Context(), d)
	defer cancel()
	return t.try(req.WithContext(ctx))
}

func deadRefuses(t *T) {
	a, b := t.backend("a", says("a")), t.backend("b", says("b"))
	p := t.start(Setup{Backends: []string{a.addr, b.addr}, Check: checked()})
	t.get(p, "/")
	a.kill()
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); {
		got, err := t.within(2*time.Second, t.newRequest(p, "GET", "/", nil))
		if err != nil || got.from() != "b" {
			t.fatalf("got %v, %v", got, err)
		}
		if n := t.inARow(p, "b", 10); n == 10 {
			return
		}
	}
}

// inARow makes n requests, and returns how many were answered by a backend, and
// promptly, until one was not.
func (t *T) inARow(p Proxy, name string, n int) int {
	for i := range n {
		got, err := t.within(300*time.Millisecond, t.newRequest(p, "GET", "/", nil))
		if err != nil || got.StatusCode != 200 || got.from() != name {
			return i
		}
	}
	return n
}

func deadHangs(t *T) {
	var hangs atomic.Bool
	var began time.Time
	var asked atomic.Int64 // how long after that it was, for the last time
	a := t.backend("a", func(w http.ResponseWriter, r *http.Request) {
		if !hangs.Load() {
			return
		}
		if r.URL.Path == "/" {
			asked.Store(int64(time.Since(began)))
		}
		<-r.Context().Done()
	})
	b := t.backend("b", says("b"))
	p := t.start(Setup{Backends: []string{a.addr, b.addr}, Check: checked()})
	if !until(patience, func() bool { return t.get(p, "/").from() == "a" }) {
		t.fatalf("the first one is not asked even while it answers")
	}
	began = time.Now()
	hangs.Store(true)
	out := until(patience, func() bool { return t.inARow(p, "b", 10) == 10 })
	if last := time.Duration(asked.Load()); !out || last > 3*time.Second {
		t.errorf("it is still asked after %v", last.Round(100*time.Millisecond))
	}
}

// probed is a backend whose check answers as said, and counts.
func (t *T) probed(name string, ok func(n int64) bool, probes *atomic.Int64) *backend {
	return t.backend(name, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/up" {
			io.WriteString(w, name)
			return
		}
		if !ok(probes.Add(1)) {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
}

// mustProbe skips the case for proxies that have no checks.
func (t *T) mustProbe(probes *atomic.Int64) {
	if !until(3*time.Second, func() bool { return probes.Load() > 0 }) {
		t.skipf("the proxy makes no checks of its own")
	}
}

func comesBack(t *T) {
	var sick atomic.Bool
	var probes, others atomic.Int64
	sick.Store(true)
	a := t.probed("a", func(int64) bool { return !sick.Load() }, &probes)
	b := t.probed("b", func(int64) bool { return true }, &others)
	p := t.start(Setup{Backends: []string{a.addr, b.addr}, Check: checked()})
	t.mustProbe(&probes)
	if !until(patience, func() bool { return t.inARow(p, "b", 10) == 10 }) {
		t.fatalf("checks that fail do not take it out")
	}
	sick.Store(false)
	if !until(3*time.Second, func() bool { return t.get(p, "/").from() == "a" }) {
		t.errorf("it does not come back")
	}
}

func oneBadProbe(t *T) {
	check := checked()
	check.Interval, check.Timeout = 50*time.Millisecond, time.Second
	var probes, others atomic.Int64
	a := t.probed("a", func(n int64) bool { return n%4 != 2 }, &probes)
	b := t.probed("b", func(int64) bool { return true }, &others)
	p := t.start(Setup{Backends: []string{a.addr, b.addr}, Check: check})
	t.mustProbe(&probes)
	if !until(patience, func() bool { return t.get(p, "/").from() == "a" }) {
		t.fatalf("it is not asked at all")
	}
	client := t.client()
	missed := 0
	for probes.Load() < 20 {
		got, err := tryOn(client, t.newRequest(p, "GET", "/", nil))
		if err != nil || got.StatusCode != 200 {
			t.fatalf("got %v, %v", got, err)
		}
		if missed++; got.from() == "a" {
			missed = 0
		}
		if missed > 20 {
			t.fatalf("after %d probes it is asked no more", probes.Load())
		}
	}
}

func neverEmpty(t *T) {
	check := checked()
	check.Interval = 50 * time.Millisecond
	var probes, others atomic.Int64
	no := func(int64) bool { return false }
	a, b := t.probed("a", no, &probes), t.probed("b", no, &others)
	p := t.start(Setup{Backends: []string{a.addr, b.addr}, Check: check})
	t.mustProbe(&probes)
	if !until(patience, func() bool { return probes.Load() > 10 && others.Load() > 10 }) {
		t.fatalf("the proxy made %d and %d checks", probes.Load(), others.Load())
	}
	for range 4 {
		if got := t.get(p, "/"); got.StatusCode != 200 {
			t.fatalf("got %d %q", got.StatusCode, got.body)
		}
	}
}

func spread(t *T) {
	a, b, c := t.backend("a", says("a")), t.backend("b", says("b")), t.backend("c", says("c"))
	p := t.proxy(a.addr, b.addr, c.addr)
	counts := map[string]int{}
	client := t.client()
	for range 30 {
		got, err := tryOn(client, t.newRequest(p, "GET", "/", nil))
		if err != nil {
			t.fatalf("%v", err)
		}
		counts[got.from()]++
	}
	if counts["a"] != 10 || counts["b"] != 10 || counts["c"] != 10 {
		t.errorf("of 30 requests %s", fmt.Sprint(counts))
	}
}
