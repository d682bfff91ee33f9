package balanceprom

import (
	"github.com/budgiehq/budgie/balance"
	"github.com/prometheus/client_golang/prometheus"
)

// state is what a frontend is asked for when metrics are collected.
type state struct {
	connections, accepted, refused, queue *prometheus.Desc
	up, weight, inFlight, failures, shed  *prometheus.Desc
}

func newState(labels prometheus.Labels) state {
	desc := func(name, help string, more ...string) *prometheus.Desc {
		return prometheus.NewDesc("budgie_"+name, help, with(more...), labels)
	}
	return state{
		connections: desc("connections", "Connections (sessions) of clients that are open."),
		accepted:    desc("connections_accepted_total", "Connections (sessions) of clients."),
		refused:     desc("connections_refused_total", "Connections turned away because of a limit on connections, datagrams that no backend took."),
		queue:       desc("queue_length", "Requests that wait for a backend with room."),
		up:          desc("backend_up", "1 where the backend is in rotation.", labelBackend),
		weight:      desc("backend_weight", "The backend's weight.", labelBackend),
		inFlight:    desc("backend_in_flight", "Requests (connections, sessions) under way at the backend.", labelBackend),
		failures:    desc("backend_failures_total", "Requests that failed at the backend, served elsewhere or not.", labelBackend),
		shed:        desc("backend_shed_total", "Requests turned away while the backend had as many as it may have.", labelBackend),
	}
}

func (s state) all() []*prometheus.Desc {
	return []*prometheus.Desc{s.connections, s.accepted, s.refused, s.queue, s.up, s.weight, s.inFlight, s.failures, s.shed}
}

// Describe implements [prometheus.Collector].
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, v := range m.counters() {
		v.Describe(ch)
	}
	m.duration.Describe(ch)
	m.firstByte.Describe(ch)
	for _, d := range m.state.all() {
		ch <- d
	}
}

// Collect implements [prometheus.Collector].
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	for _, v := range m.counters() {
		v.Collect(ch)
	}
	m.duration.Collect(ch)
	m.firstByte.Collect(ch)
	for f, snapshots := range m.snapshots() {
		m.state.collect(ch, f.labels, snapshots)
	}
}

// snapshots returns the states of all frontends.
func (m *Metrics) snapshots() map[*front][]balance.Snapshot {
	m.mu.RLock()
	sources := make(map[*balance.Source]*front, len(m.fronts))
	for s, f := range m.fronts {
		sources[s] = f
	}
	m.mu.RUnlock()
	all := make(map[*front][]balance.Snapshot)
	for s, f := range sources { // without the lock: they have their own
		all[f] = append(all[f], s.Snapshot())
	}
	return all
}

// ofBackend is what frontends of the same labels say of a backend, summed up.
type ofBackend struct {
	up, weight, inFlight, failures, shed float64
}

// collect sends what frontends of the same labels say, which may be several for a
// moment.
func (s state) collect(ch chan<- prometheus.Metric, labels []string, snapshots []balance.Snapshot) {
	var connections, accepted, refused, queue float64
	backends := make(map[string]ofBackend)
	for _, snap := range snapshots {
		connections += float64(snap.Connections)
		accepted += float64(snap.Accepted)
		refused += float64(snap.Refused)
		queue += float64(snap.Waiting)
		for _, b := range snap.Backends { // one id may be there at two addresses
			of := backends[text(b.ID)]
			if b.Healthy {
				of.up = 1
			}
			of.weight += float64(max(b.Weight, 1))
			of.inFlight += float64(b.Active)
			of.failures += float64(b.Failures)
			of.shed += float64(b.Shed)
			backends[text(b.ID)] = of
		}
	}
	send := func(d *prometheus.Desc, kind prometheus.ValueType, v float64, more ...string) {
		ch <- prometheus.MustNewConstMetric(d, kind, v, append(labels[:len(labels):len(labels)], more...)...)
	}
	send(s.connections, prometheus.GaugeValue, connections)
	send(s.accepted, prometheus.CounterValue, accepted)
	send(s.refused, prometheus.CounterValue, refused)
	send(s.queue, prometheus.GaugeValue, queue)
	for id, of := range backends {
		send(s.up, prometheus.GaugeValue, of.up, id)
		send(s.weight, prometheus.GaugeValue, of.weight, id)
		send(s.inFlight, prometheus.GaugeValue, of.inFlight, id)
		send(s.failures, prometheus.CounterValue, of.failures, id)
		send(s.shed, prometheus.CounterValue, of.shed, id)
	}
}
