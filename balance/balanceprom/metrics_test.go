package balanceprom_test

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/budgiehq/budgie/balance"
	"github.com/budgiehq/budgie/balance/balanceprom"
	"github.com/budgiehq/budgie/bunfile"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// gather returns the values of all series of frontends, by name and the labels that
// not all have. Of a histogram it is the count, and the number of its classic buckets.
func gather(t *testing.T, reg prometheus.Gatherer) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]float64)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name, labels := f.GetName(), map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			for _, l := range []string{"service", "mode", "addr"} {
				if labels[l] == "" {
					t.Errorf("%s has no label %s", name, l)
				}
				delete(labels, l)
			}
			for _, l := range slices.Sorted(maps.Keys(labels)) {
				name += " " + l + "=" + labels[l]
			}
			if h := m.GetHistogram(); h != nil {
				all[name] = float64(h.GetSampleCount())
				all[name+" buckets"] = float64(len(h.GetBucket()))
				if h.GetSampleCount() > 0 && h.Schema == nil {
					t.Errorf("%s is no native histogram", name)
				}
				continue
			}
			all[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return all
}

func open(t *testing.T, m *balanceprom.Metrics, mode bunfile.BalanceMode) balance.Frontend {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f, err := balance.New().Listen(t.Context(), balance.Config{Name: "web", Mode: mode, Listener: ln, Observer: m})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Shutdown(context.Background()) })
	return f
}

func ask(t *testing.T, f balance.Frontend, path string) {
	t.Helper()
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := c.Get("http://" + f.Addr().String() + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Fatal(err)
	}
}

// check waits until all of the series have their values: a client has its answer
// before the observer is told.
func check(t *testing.T, reg prometheus.Gatherer, want map[string]float64) {
	t.Helper()
	var wrong []string
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); <-tick.C {
		got := gather(t, reg)
		wrong = nil
		for name, v := range want {
			if g, ok := got[name]; !ok || g != v {
				wrong = append(wrong, fmt.Sprintf("%s = %v (there: %t), want %v", name, g, ok, v))
			}
		}
		if len(wrong) == 0 {
			return
		}
	}
	t.Error(strings.Join(wrong, "\n"))
}

func TestMetricsOfHTTP(t *testing.T) {
	m, reg := balanceprom.New(balanceprom.WithBuckets(1, 2)), prometheus.NewPedanticRegistry()
	reg.MustRegister(m)
	f := open(t, m, bunfile.ModeHTTP)
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/no" {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		io.WriteString(w, "hello")
	}))
	defer backend.Close()
	ask(t, f, "/")
	addr := backend.Listener.Addr().String()
	f.Update([]balance.Backend{{ID: "dead", Addr: "127.0.0.1:1"}, {ID: "b", Addr: addr, Weight: 3}})
	for range 3 {
		ask(t, f, "/")
	}
	ask(t, f, "/no")
	check(t, reg, map[string]float64{
		"budgie_requests_total backend= code=5xx":             1,
		"budgie_requests_total backend=b code=2xx":            3,
		"budgie_requests_total backend=b code=5xx":            1,
		"budgie_failures_total cause=destination_unavailable": 1,
		"budgie_retries_total":                                1,
		"budgie_shed_total":                                   0,
		"budgie_request_duration_seconds":                     5,
		"budgie_request_duration_seconds buckets":             2,
		"budgie_first_byte_seconds backend=b":                 4,
		"budgie_backend_up backend=b":                         1,
		"budgie_backend_up backend=dead":                      0,
		"budgie_backend_weight backend=b":                     3,
		"budgie_backend_weight backend=dead":                  1,
		"budgie_backend_failures_total backend=dead":          1,
		"budgie_backend_in_flight backend=b":                  0,
		"budgie_backend_shed_total backend=b":                 0,
		"budgie_connections_accepted_total":                   5,
		"budgie_queue_length":                                 0,
	})
	if sent := gather(t, reg)["budgie_sent_bytes_total"]; sent <= 15 {
		t.Errorf("%v bytes sent, want those of three answers and an error", sent)
	}
	gone(t, reg, f, addr)
}

// gone lets backends leave, then the frontend end, and looks for what is left.
func gone(t *testing.T, reg prometheus.Gatherer, f balance.Frontend, addr string) {
	t.Helper()
	f.Update([]balance.Backend{{ID: "c", Addr: addr}})
	ask(t, f, "/")
	check(t, reg, map[string]float64{"budgie_requests_total backend=c code=2xx": 1})
	for name := range gather(t, reg) {
		if strings.Contains(name, "backend=b") || strings.Contains(name, "backend=dead") {
			t.Errorf("%s is still there", name)
		}
	}
	if err := f.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := gather(t, reg); len(got) != 0 {
		t.Errorf("after the frontend's end there is %v", got)
	}
}

// The number of series stays the same while backends come and go, also under
// traffic that ends after they left.
func TestCardinality(t *testing.T) {
	m, reg := balanceprom.New(), prometheus.NewPedanticRegistry()
	reg.MustRegister(m)
	f := open(t, m, bunfile.ModeTCP)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	f.Update([]balance.Backend{{ID: "0", Addr: ln.Addr().String()}})
	client, err := net.Dial("tcp", f.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	backend, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	before := len(gather(t, reg))
	for i := range 50 {
		f.Update([]balance.Backend{{ID: fmt.Sprint(i), Addr: ln.Addr().String()}})
	}
	backend.Close()
	client.Close()
	check(t, reg, map[string]float64{
		"budgie_requests_total backend=left code=ok": 1,
		"budgie_backend_up backend=49":               1,
	})
	if got := gather(t, reg); len(got) > before {
		t.Errorf("%d series, there were %d: %v", len(got), before, slices.Sorted(maps.Keys(got)))
	}
}

// elsewhere is a listener that claims an address.
type elsewhere struct{ net.Listener }

func (elsewhere) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 80} }

// A frontend that takes the place of another goes on with its series.
func TestSameLabels(t *testing.T) {
	m, reg := balanceprom.New(balanceprom.WithLabels(prometheus.Labels{"node": "n"})), prometheus.NewPedanticRegistry()
	reg.MustRegister(m)
	var fronts []balance.Frontend
	for range 2 {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		f, err := balance.New().Listen(t.Context(), balance.Config{Name: "web", Mode: bunfile.ModeTCP, Listener: elsewhere{ln}, Observer: m})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Shutdown(context.Background()) })
		fronts = append(fronts, f)
		f.Update([]balance.Backend{{ID: "b", Addr: "127.0.0.1:1"}})
		c, err := net.Dial("tcp", ln.Addr().String())
		if err == nil { // else it was reset before the dialling side saw that it stood
			io.Copy(io.Discard, c)
			c.Close()
		}
	}
	check(t, reg, map[string]float64{
		"budgie_requests_total backend=b code=failed node=n": 2,
		"budgie_backend_failures_total backend=b node=n":     2,
		"budgie_connections_accepted_total node=n":           2,
	})
	if err := fronts[0].Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	check(t, reg, map[string]float64{"budgie_requests_total backend=b code=failed node=n": 2, "budgie_backend_up backend=b node=n": 0})
}
