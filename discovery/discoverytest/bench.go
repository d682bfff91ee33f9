package discoverytest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"testing"
	"time"

	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/discovery"
)

// bench is what the tests of the suite work with.
type bench struct {
	Harness
	t testing.TB
	// announcer and browser are two discoverers of one network, or the same one
	// twice.
	announcer, browser Discoverer
	// last is what service returned last.
	last discovery.Service
}

func newBench(t testing.TB, h Harness) *bench {
	b := &bench{Harness: h, t: t}
	b.announcer = b.open()
	b.browser = b.another()
	return b
}

// another returns a further discoverer of the network.
func (b *bench) another() Discoverer {
	if b.Alone {
		return b.announcer
	}
	return b.open()
}

func (b *bench) open() Discoverer {
	d := b.New(b.t)
	b.t.Cleanup(func() {
		if err := d.Close(); err != nil {
			b.t.Errorf("Close: %v", err)
		}
	})
	return d
}

// randomID returns the id of a replica that nobody else has.
func randomID() string {
	id := make([]byte, 32)
	rand.Read(id) // never fails
	return hex.EncodeToString(id)
}

// service returns a service to announce.
func (b *bench) service(name string) discovery.Service {
	b.last = discovery.Service{
		ID: randomID(), ServiceID: randomID(), Name: name, Image: "docker.io/library/nginx:1", Node: randomID(), Flock: randomID(),
		Ports: []discovery.Port{
			{ContainerPort: 80, HostPort: 8080, Protocol: bunfile.TCP, HTTP: true},
			{ContainerPort: 53, HostPort: 5300, Protocol: bunfile.UDP},
		},
		PeerPort: 7946,
	}
	return b.last
}

func (b *bench) announce(svc discovery.Service) {
	b.t.Helper()
	if err := b.announcer.Announce(b.t.Context(), svc); err != nil {
		b.t.Fatalf("Announce %s: %v", svc.Name, err)
	}
}

func (b *bench) withdraw(id string) {
	b.t.Helper()
	if err := b.announcer.Withdraw(b.t.Context(), id); err != nil {
		b.t.Fatalf("Withdraw: %v", err)
	}
}

// same fails unless a received service is the announced one, whatever its
// addresses, which are the discoverer's to say.
func (b *bench) same(got, want discovery.Service) {
	b.t.Helper()
	got.Addrs, want.Addrs = nil, nil
	if !got.Equal(want) {
		b.t.Errorf("received %+v\nwant %+v", got, want)
	}
}

// watcher receives events and checks the order that the interface promises.
type watcher struct {
	b      *bench
	events <-chan discovery.Event
	stop   context.CancelFunc
	// order is the types received, by id.
	order map[string][]discovery.EventType
	// waiting are received events that nobody asked for yet, by id.
	waiting map[string][]discovery.Event
}

// watch browses until the end of the test.
func (b *bench) watch(d Discoverer) *watcher {
	b.t.Helper()
	ctx, cancel := context.WithCancel(b.t.Context())
	b.t.Cleanup(cancel)
	events, err := d.Browse(ctx)
	if err != nil {
		b.t.Fatalf("Browse: %v", err)
	}
	return b.wrap(events, cancel)
}

func (b *bench) wrap(events <-chan discovery.Event, stop context.CancelFunc) *watcher {
	return &watcher{
		b: b, events: events, stop: stop,
		order:   make(map[string][]discovery.EventType),
		waiting: make(map[string][]discovery.Event),
	}
}

// next returns the next event of an id.
func (w *watcher) next(id string) discovery.Event {
	w.b.t.Helper()
	return w.await(id, "an event", func(discovery.Event) bool { return true })
}

// await returns the first event of an id that is ok.
func (w *watcher) await(id, what string, ok func(discovery.Event) bool) discovery.Event {
	w.b.t.Helper()
	timeout := time.NewTimer(w.b.Wait)
	defer timeout.Stop()
	for {
		for len(w.waiting[id]) > 0 {
			e := w.waiting[id][0]
			w.waiting[id] = w.waiting[id][1:]
			if ok(e) {
				return e
			}
		}
		select {
		case e, open := <-w.events:
			if !open {
				w.b.t.Fatalf("the channel was closed; waited for %s", what)
			}
			w.take(e)
		case <-timeout.C:
			w.b.t.Fatalf("waited %v in vain for %s of %.12s; its events so far: %v", w.b.Wait, what, id, w.order[id])
		}
	}
}

// take notes an event and checks that it may follow those before it: Added, any
// number of Updated, Removed, and again.
func (w *watcher) take(e discovery.Event) {
	id := e.Service.ID
	before := w.order[id]
	known := len(before) > 0 && before[len(before)-1] != discovery.Removed
	if known != (e.Type == discovery.Updated || e.Type == discovery.Removed) {
		w.b.t.Errorf("event %v of %s after %v", e.Type, e.Service.Name, before)
	}
	w.order[id] = append(before, e.Type)
	w.waiting[id] = append(w.waiting[id], e)
}

// count returns how many events of an id were received.
func (w *watcher) count(id string) int { return len(w.order[id]) }

// closed waits until the channel is closed.
func (w *watcher) closed() {
	w.b.t.Helper()
	timeout := time.NewTimer(w.b.Wait)
	defer timeout.Stop()
	for {
		select {
		case _, open := <-w.events:
			if !open {
				return
			}
		case <-timeout.C:
			w.b.t.Fatalf("the channel is still open after %v", w.b.Wait)
		}
	}
}
