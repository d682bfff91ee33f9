package budgie_test

import (
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/budgiehq/budgie"
	"github.com/budgiehq/budgie/balance"
	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/runtime/runtimetest"
	"github.com/budgiehq/budgie/trust"
)

// watching is an observer that counts.
type watching struct {
	mu    sync.Mutex
	names map[string]int
}

func (w *watching) Opened(*balance.Source)                         {}
func (w *watching) Closed(*balance.Source)                         {}
func (w *watching) Changed(*balance.Source, balance.BackendChange) {}

func (w *watching) Ended(s *balance.Source, e balance.Exchange) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.names[s.Name]++
}

func (w *watching) count(name string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.names[name]
}

// An observer is told of published ports and of Balance.
func TestWithObserver(t *testing.T) {
	w := &watching{names: make(map[string]int)}
	f := newFakes(t, runtimetest.WithHandler(echoName("0")))
	c := f.client(t, budgie.WithObserver(w))
	rec, err := c.Run(t.Context(), web("web"))
	if err != nil {
		t.Fatal(err)
	}
	fetch(t, rec.URL())
	front, err := c.Balance(t.Context(), rec.ServiceID[:12], "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	awaitBackends(t, front, 1)
	fetch(t, "http://"+front.Addr().String())
	happens(t, "both are told of", func() bool { return w.count("web") > 0 && w.count(rec.ServiceID[:12]) > 0 })
}

// happens waits for what has to happen.
func happens(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); <-tick.C {
		if ok() {
			return
		}
	}
	t.Fatalf("did not happen in time: %s", what)
}

// What comes in at a node's ports is told to the others of its flock, to a process
// on the same node too, and to nobody else.
func TestWatchTraffic(t *testing.T) {
	tok := trust.NewToken()
	f := newFakes(t, runtimetest.WithHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/no" {
			w.WriteHeader(http.StatusInternalServerError)
		}
	})))
	c := f.client(t, budgie.WithToken(tok))
	spec := web("web")
	spec.Balance.Mode = bunfile.ModeHTTP
	rec, err := c.Run(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/", "/", "/no"} {
		resp, err := http.Get(rec.URL() + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	other := newFakes(t)
	other.node = f.network.Join(netip.MustParseAddr("127.0.0.1"))
	for name, tc := range map[string]struct {
		client *budgie.Client
		local  bool
		told   int
	}{
		"the client itself": {c, true, 1},
		"another node":      {other.client(t, budgie.WithToken(tok)), false, 1},
		"another flock":     {other.client(t, budgie.WithToken(trust.NewToken())), false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			looks := 0
			for all, err := range tc.client.WatchTraffic(t.Context(), 50*time.Millisecond) {
				if err != nil {
					t.Fatal(err)
				}
				if looks++; tc.told == 0 && looks < 5 {
					continue
				}
				if tc.told > 0 && (len(all) == 0 || all[0].Traffic == nil || all[0].Traffic.Requests < 3) && looks < 100 {
					continue
				}
				if len(all) != tc.told {
					t.Fatalf("got %+v", all)
				}
				if tc.told == 0 {
					break
				}
				one := all[0]
				if one.ID != rec.ID || one.ServiceID != rec.ServiceID || one.Name != "web" || one.Local != tc.local || !one.Ready || one.Traffic == nil {
					t.Fatalf("got %+v", one)
				}
				// Health checks come in elsewhere.
				if tr := one.Traffic; tr.Requests != 3 || tr.Failures != 1 || tr.Rate <= 0 || tr.FailureRate <= 0 || tr.P50 <= 0 || tr.P99 < tr.P50 || tr.Active != 0 {
					t.Errorf("got %+v", tr)
				}
				break
			}
		})
	}
}
