package budgie

import (
	"context"
	"maps"
	"sync"

	"github.com/budgiehq/budgie/discovery"
)

// flockWatch lets all of a client that follows replicas on other nodes share one
// roster, and with it one connection to each node, however many containers there
// are.
type flockWatch struct {
	mu    sync.Mutex
	users int
	loop  *watchLoop
}

// replicaWatch is who wants to know of some announced replicas.
type replicaWatch struct {
	wanted func(discovery.Service) bool
	// changed is called with the roster when something is new of one of them, and
	// for each that is known at first. It must not end its own watch.
	changed func(r *roster, id string)
	// told are the replicas that it was told of: it hears of their end, too, whatever is
	// announced of them by then, and for a while after whether their node is silent.
	told map[string]bool
}

// watchReplicas follows the announced replicas that are wanted, until stop is
// called: after that changed is not. It returns an error where discovery is off,
// or the client ends.
func (c *Client) watchReplicas(wanted func(discovery.Service) bool, changed func(r *roster, id string)) (stop func(), err error) {
	w := &c.flockWatch
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.loop == nil || isClosed(w.loop.done) {
		if w.loop, err = startWatchLoop(c); err != nil {
			return nil, err
		}
		w.users = 0
	}
	w.users++
	loop, sub := w.loop, &replicaWatch{wanted, changed, make(map[string]bool)}
	loop.do(func() { loop.add(sub) })
	return sync.OnceFunc(func() {
		loop.do(func() { loop.drop(sub) })
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.loop != loop {
			return
		}
		if w.users--; w.users == 0 {
			loop.cancel()
			<-loop.done
			w.loop = nil
		}
	}), nil
}

// watchLoop is the one goroutine that owns the roster.
type watchLoop struct {
	cancel context.CancelFunc
	done   chan struct{}
	ops    chan func()
	ctx    context.Context
	r      *roster
	// known is all that is announced.
	known map[string]discovery.Service
	subs  map[*replicaWatch]bool
}

func startWatchLoop(c *Client) (*watchLoop, error) {
	ctx, cancel := context.WithCancel(c.life)
	events, err := c.browse(ctx)
	if err != nil {
		cancel()
		return nil, err
	}
	l := newWatchLoop(ctx, cancel)
	l.r = c.newRoster(0, l.changed)
	go l.run(events)
	return l, nil
}

func newWatchLoop(ctx context.Context, cancel context.CancelFunc) *watchLoop {
	return &watchLoop{
		cancel: cancel, done: make(chan struct{}), ops: make(chan func()), ctx: ctx,
		known: make(map[string]discovery.Service), subs: make(map[*replicaWatch]bool),
	}
}

// do has the loop do something, and returns when that is done, or the loop has
// ended.
func (l *watchLoop) do(op func()) {
	done := make(chan struct{})
	select {
	case l.ops <- func() { op(); close(done) }:
		<-done
	case <-l.done:
	}
}

func (l *watchLoop) run(events <-chan discovery.Event) {
	defer close(l.done)
	defer func() {
		l.cancel()
		l.r.wg.Wait()
	}()
	for {
		select {
		case e, open := <-events:
			if !open {
				return
			}
			l.take(e)
		case op := <-l.ops:
			op()
		case rep := <-l.r.reports:
			l.r.learn(rep)
		case <-l.ctx.Done():
			return
		}
	}
}

// take takes an event of the discovery. The roster hears of what somebody wants.
func (l *watchLoop) take(e discovery.Event) {
	id := e.Service.ID
	if e.Type != discovery.Removed {
		l.known[id] = e.Service
	}
	_, followed := l.r.hints[id]
	switch {
	case e.Type != discovery.Removed && l.wanted(e.Service):
		l.r.take(l.ctx, e)
	case followed:
		l.r.take(l.ctx, discovery.Event{Type: discovery.Removed, Service: l.r.hints[id]})
	}
	if e.Type == discovery.Removed {
		delete(l.known, id)
	}
	l.tidy()
}

func (l *watchLoop) wanted(s discovery.Service) bool {
	for sub := range l.subs {
		if sub.wanted(s) {
			return true
		}
	}
	return false
}

// changed tells those who want to know of a replica.
func (l *watchLoop) changed(id string) {
	s := l.known[id]
	for sub := range l.subs {
		if sub.wanted(s) || sub.told[id] {
			sub.told[id] = true
			sub.changed(l.r, id)
		}
	}
}

// tidy forgets of whom there is nothing more to tell.
func (l *watchLoop) tidy() {
	l.r.tidy()
	for sub := range l.subs {
		maps.DeleteFunc(sub.told, func(id string, _ bool) bool {
			_, left := l.r.left[id]
			return !left && !sub.wanted(l.known[id])
		})
	}
}

// add begins a watch.
func (l *watchLoop) add(sub *replicaWatch) {
	l.subs[sub] = true
	for id, s := range l.known {
		if !sub.wanted(s) {
			continue
		}
		if _, followed := l.r.hints[id]; followed {
			sub.told[id] = true
			sub.changed(l.r, id)
		} else {
			l.r.take(l.ctx, discovery.Event{Type: discovery.Added, Service: s})
		}
	}
}

// drop ends a watch. What nobody else wants is not followed any more.
func (l *watchLoop) drop(sub *replicaWatch) {
	delete(l.subs, sub)
	for id, s := range l.r.hints {
		if !l.wanted(l.known[id]) {
			l.r.take(l.ctx, discovery.Event{Type: discovery.Removed, Service: s})
		}
	}
}
