package balanceprom

import (
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/budgiehq/budgie/balance"
	"github.com/prometheus/client_golang/prometheus"
)

// Labels of all metrics, and those that some have.
const (
	labelService = "service"
	labelMode    = "mode"
	labelAddr    = "addr"
	labelBackend = "backend"
)

var frontendLabels = []string{labelService, labelMode, labelAddr}

// Metrics observes frontends (a [balance.Observer]) and hands out what it counted (a
// [prometheus.Collector]). It is made by [New]. All methods may be called
// concurrently.
type Metrics struct {
	requests, failures, retries, shed, received, sent, calls *prometheus.CounterVec
	duration, firstByte                                      *prometheus.HistogramVec
	state                                                    state

	mu     sync.RWMutex
	fronts map[*balance.Source]*front
	shared map[string]*front // by their labels
}

// front is what is counted of the frontends with the same labels: one, but for the
// moment in which another takes its place. Maps are guarded by Metrics.mu.
type front struct {
	labels   []string // values of frontendLabels
	uses     int
	backends map[string]*backend // by their ids
	none     *backend            // for what no backend was tried for
	left     *backend            // for those that have left

	retries, shed, received, sent prometheus.Counter
	duration                      prometheus.Observer
}

// backend is what is counted of one. Its members are resolved once, since finding
// them costs more than counting.
type backend struct {
	uses      int
	codes     [len(codes)]prometheus.Counter
	firstByte prometheus.Observer // nil where it is no real one
}

// codes are the values of the label code.
var codes = [...]string{"none", "1xx", "2xx", "3xx", "4xx", "5xx", "ok", "failed"}

const codeOK, codeFailed = 6, 7

// Option changes how Metrics are made.
type Option func(*config)

type config struct {
	buckets []float64
	labels  prometheus.Labels
}

// WithBuckets sets the upper bounds, in seconds, of the classic buckets of the
// histograms. The default goes from 1 ms to 30 s; an empty list leaves the native
// ones alone.
func WithBuckets(seconds ...float64) Option {
	return func(c *config) { c.buckets = seconds }
}

// WithLabels adds constant labels to all metrics, such as the machine's name.
func WithLabels(l prometheus.Labels) Option { return func(c *config) { c.labels = l } }

// New returns metrics without a frontend.
func New(opts ...Option) *Metrics {
	c := config{buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}}
	for _, o := range opts {
		o(&c)
	}
	counter := func(name, help string, more ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "budgie", Name: name, Help: help, ConstLabels: c.labels}, with(more...))
	}
	histogram := func(name, help string, more ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "budgie", Name: name, Help: help, ConstLabels: c.labels, Buckets: c.buckets,
			NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 160, NativeHistogramMinResetDuration: time.Hour,
		}, with(more...))
	}
	return &Metrics{
		requests:  counter("requests_total", "Requests (connections, sessions) that have ended.", labelBackend, "code"),
		failures:  counter("failures_total", "Requests that did not get their whole answer from a backend.", "cause"),
		retries:   counter("retries_total", "Attempts after the first one of a request."),
		shed:      counter("shed_total", "Requests turned away because the backends had enough to do."),
		received:  counter("received_bytes_total", "Bytes of bodies from clients."),
		sent:      counter("sent_bytes_total", "Bytes of bodies to clients."),
		calls:     counter("grpc_calls_total", "Calls by gRPC that have ended.", "grpc_code"),
		duration:  histogram("request_duration_seconds", "Time from a request to the end of its response."),
		firstByte: histogram("first_byte_seconds", "Time from a request to the header of its response.", labelBackend),
		state:     newState(c.labels),
		fronts:    make(map[*balance.Source]*front),
		shared:    make(map[string]*front),
	}
}

// with returns the labels of all metrics and some more.
func with(more ...string) []string {
	return append(frontendLabels[:len(frontendLabels):len(frontendLabels)], more...)
}

// Opened implements [balance.Observer].
func (m *Metrics) Opened(s *balance.Source) {
	labels := []string{text(s.Name), string(s.Mode), text(s.Addr.String())}
	key := strings.Join(labels, "\x00")
	m.mu.Lock()
	defer m.mu.Unlock()
	f := m.shared[key]
	if f == nil {
		f = m.newFront(labels)
		m.shared[key] = f
	}
	f.uses++
	m.fronts[s] = f
}

func (m *Metrics) newFront(labels []string) *front {
	f := &front{
		labels: labels, backends: make(map[string]*backend),
		retries: m.retries.WithLabelValues(labels...), shed: m.shed.WithLabelValues(labels...),
		received: m.received.WithLabelValues(labels...), sent: m.sent.WithLabelValues(labels...),
		duration: m.duration.WithLabelValues(labels...),
	}
	f.none, f.left = m.newBackend(f, ""), m.newBackend(f, "left")
	return f
}

func (m *Metrics) newBackend(f *front, id string) *backend {
	b := &backend{}
	for i, code := range codes {
		if httpCode := i < codeOK; httpCode == (f.labels[1] == "http") {
			b.codes[i] = m.requests.WithLabelValues(f.values(id, code)...)
		}
	}
	return b
}

// values returns the values of the labels of all metrics and some more.
func (f *front) values(more ...string) []string {
	return append(f.labels[:len(f.labels):len(f.labels)], more...)
}

// Closed implements [balance.Observer].
func (m *Metrics) Closed(s *balance.Source) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f := m.fronts[s]
	if f == nil {
		return
	}
	delete(m.fronts, s)
	if f.uses--; f.uses > 0 {
		return
	}
	delete(m.shared, strings.Join(f.labels, "\x00"))
	m.forget(prometheus.Labels{labelService: f.labels[0], labelMode: f.labels[1], labelAddr: f.labels[2]})
}

// forget removes all series with the given labels.
func (m *Metrics) forget(l prometheus.Labels) {
	for _, v := range m.counters() {
		v.DeletePartialMatch(l)
	}
	m.duration.DeletePartialMatch(l)
	m.firstByte.DeletePartialMatch(l)
}

func (m *Metrics) counters() []*prometheus.CounterVec {
	return []*prometheus.CounterVec{m.requests, m.failures, m.retries, m.shed, m.received, m.sent, m.calls}
}

// Changed implements [balance.Observer].
func (m *Metrics) Changed(s *balance.Source, c balance.BackendChange) {
	id := text(c.Backend.ID)
	m.mu.Lock()
	defer m.mu.Unlock()
	f := m.fronts[s]
	if f == nil {
		return
	}
	b := f.backends[id]
	switch {
	case c.Kind == balance.Joined && b == nil:
		b = m.newBackend(f, id)
		b.firstByte = m.firstByte.WithLabelValues(f.values(id)...)
		f.backends[id] = b
		fallthrough
	case c.Kind == balance.Joined:
		b.uses++
	case c.Kind == balance.Left && b != nil:
		if b.uses--; b.uses == 0 {
			delete(f.backends, id)
			m.forget(prometheus.Labels{labelService: f.labels[0], labelMode: f.labels[1], labelAddr: f.labels[2], labelBackend: id})
		}
	}
}

// Ended implements [balance.Observer].
func (m *Metrics) Ended(s *balance.Source, e balance.Exchange) {
	// Held while counting: series that are removed meanwhile must not come back.
	m.mu.RLock()
	defer m.mu.RUnlock()
	f := m.fronts[s]
	if f == nil {
		return
	}
	b := f.none
	if e.Backend.ID != "" {
		if b = f.backends[text(e.Backend.ID)]; b == nil {
			b = f.left
		}
	}
	b.codes[codeOf(f, e)].Inc()
	f.duration.Observe(e.Duration.Seconds())
	if b.firstByte != nil && e.FirstByte > 0 {
		b.firstByte.Observe(e.FirstByte.Seconds())
	}
	f.received.Add(float64(e.Received))
	f.sent.Add(float64(e.Sent))
	f.retries.Add(float64(e.Retries()))
	if e.Shed() {
		f.shed.Inc()
	}
	if e.Cause != balance.CauseNone {
		m.failures.WithLabelValues(f.values(string(e.Cause))...).Inc()
	}
	if e.GRPC {
		m.calls.WithLabelValues(f.values(grpcCode(e.GRPCStatus))...).Inc()
	}
}

// codeOf returns the index of the code of an exchange.
func codeOf(f *front, e balance.Exchange) int {
	switch {
	case f.labels[1] == "http" && e.Status >= 100 && e.Status < 600:
		return e.Status / 100
	case f.labels[1] == "http":
		return 0
	case e.Cause == balance.CauseNone:
		return codeOK
	}
	return codeFailed
}

// grpcCode is the label of a status. There are 17 codes; a backend may say
// anything.
func grpcCode(n int) string {
	switch {
	case n < 0:
		return "none"
	case n > 16:
		return "other"
	}
	return strconv.Itoa(n)
}

// text makes a label of what may be none.
func text(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }
