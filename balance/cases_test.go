package balance_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/budgiehq/budgie/balance"
	"github.com/budgiehq/budgie/bunfile"
)

// A backend that fails one probe, now and then, stays in rotation.
func TestCaseB4OneBadProbeEjectsNothing(t *testing.T) {
	var probes atomic.Int64
	f := open(t, balance.Config{Mode: bunfile.ModeHTTP, Check: &balance.Check{Path: "/up", Interval: 5 * time.Millisecond}})
	f.set(httpBackend(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/up" && probes.Add(1)%3 == 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}), httpBackend(t, says("good")))
	// The status is looked at all the time, while a dozen of probes fail.
	eventually(t, "40 probes", func() bool {
		if s := f.Status()[0]; !s.Healthy {
			t.Fatalf("status = %+v after %d probes; want it in rotation", s, probes.Load())
		}
		return probes.Load() > 40
	})
	if f.log.has("out of rotation") {
		t.Errorf("it was out of rotation for a while:\n%s", f.log)
	}
}

// A dead backend, which nobody but the checks asks, leaves rotation within 3 s
// at the pace at which replicas of other machines are checked. One that hangs is
// noticed as one that refuses.
func TestCaseB4DeadBackendLeavesIn3s(t *testing.T) {
	check := &balance.Check{Path: "/", Interval: 600 * time.Millisecond, Timeout: 600 * time.Millisecond}
	for name, die := range map[string]func(*http.Server, *atomic.Bool){
		"refuses": func(s *http.Server, _ *atomic.Bool) { s.Close() },
		"hangs":   func(_ *http.Server, hang *atomic.Bool) { hang.Store(true) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var hang atomic.Bool
			probed := make(chan struct{}, 100)
			ln := listen(t)
			s := &http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				if hang.Load() {
					<-r.Context().Done()
				}
				select {
				case probed <- struct{}{}:
				default:
				}
			})}
			served := make(chan error, 1)
			go func() { served <- s.Serve(ln) }()
			f := open(t, balance.Config{Mode: bunfile.ModeHTTP, Check: check})
			f.set(ln.Addr().String(), httpBackend(t, says("good")))
			receive(t, probed)
			die(s, &hang)
			died := time.Now()
			eventually(t, "the dead one is out", func() bool { return !f.Status()[0].Healthy })
			if took := time.Since(died); took > 3*time.Second {
				t.Errorf("it took %v", took)
			}
			if got := get(t, f.url("/")); got.body != "good" {
				t.Errorf("got %d %q", got.StatusCode, got.body)
			}
			s.Close()
			receive(t, served)
		})
	}
}

// Nothing between the backend and the client holds an event back. The quickest
// of several counts: a busy machine may delay some.
func TestCaseB7EventIn100ms(t *testing.T) {
	f := openHTTP(t)
	f.set(httpBackend(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprintf(w, "data: %d\n", time.Now().UnixNano())
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}))
	best := time.Hour
	for range 5 {
		ctx, cancel := context.WithCancel(t.Context())
		resp, err := newClient(t).Do(request(t, http.MethodGet, f.url("/"), nil).WithContext(ctx))
		if err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(resp.Body).ReadString('\n')
		var sent int64
		if _, scanErr := fmt.Sscanf(line, "data: %d", &sent); err != nil || scanErr != nil {
			t.Fatalf("got %q, %v", line, err)
		}
		best = min(best, time.Since(time.Unix(0, sent)))
		cancel()
		resp.Body.Close()
	}
	if best > 100*time.Millisecond {
		t.Errorf("the quickest of five events took %v", best)
	}
}

// Two hundred deploys in a row, each to a backend that needs a moment until it
// is up: none is judged unhealthy, and no request fails or waits for the next
// probe to be served.
func TestCaseB10DeploysAreHealthy(t *testing.T) {
	f := open(t, balance.Config{Mode: bunfile.ModeHTTP, Check: &balance.Check{Path: "/up", Interval: time.Hour}})
	for i := range 200 {
		name := fmt.Sprint("v", i)
		probed := make(chan struct{}, 1)
		ln := listen(t)
		s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/up" {
				probed <- struct{}{}
				return
			}
			io.WriteString(w, name)
		})}
		served := make(chan error, 1)
		// It listens before the frontend knows of it, and serves at the same
		// time or later.
		go func(ln net.Listener) { served <- s.Serve(ln) }(ln)
		f.Update([]balance.Backend{{ID: name, Addr: ln.Addr().String()}})
		if got := get(t, f.url("/")); got.StatusCode != http.StatusOK || got.body != name {
			t.Fatalf("deploy %d: got %d %q", i, got.StatusCode, got.body)
		}
		receive(t, probed)
		if st := f.Status()[0]; !st.Healthy || st.Failures != 0 || st.LastError != nil {
			t.Fatalf("deploy %d: status = %+v", i, st)
		}
		f.Update(nil)
		s.Close()
		receive(t, served)
	}
	if f.log.has("out of rotation") {
		t.Errorf("a deploy was judged unhealthy:\n%s", f.log)
	}
}
