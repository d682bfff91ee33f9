package budgie

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/budgiehq/budgie/discovery"
	"github.com/budgiehq/budgie/peer"
)

// newWatchBench returns a loop that runs, and the bench that its roster is on.
func newWatchBench(t *testing.T) (*watchLoop, *rosterBench) {
	ctx, cancel := context.WithCancel(t.Context())
	l := newWatchLoop(ctx, cancel)
	b := newUnstartedBench(t, 0, l.changed)
	l.r = b.roster
	go l.run(b.events)
	return l, b
}

// All that follow replicas on a node share one connection to it, which ends with
// the last of them.
func TestWatchesShareConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, b := newWatchBench(t)
		defer b.flock.Close()
		web, db, other := b.service("1", "192.0.2.1"), b.service("2", "192.0.2.1"), b.service("3", "192.0.2.3")
		db.Node = web.Node
		b.announce(web)
		b.announce(db)
		b.announce(other)
		b.last0()

		heard := map[string][]string{}
		watch := func(name string, s discovery.Service) *replicaWatch {
			sub := &replicaWatch{
				func(o discovery.Service) bool { return o.ServiceID == s.ServiceID },
				func(r *roster, id string) {
					_, _, _, proved := r.proved(id)
					heard[name] = append(heard[name], map[bool]string{true: "proved ", false: "announced "}[proved]+id[:1])
				},
				make(map[string]bool),
			}
			l.do(func() { l.add(sub) })
			synctest.Wait()
			return sub
		}
		first := watch("first", web)
		conn := b.last(1)
		second, third := watch("second", db), watch("third", web)
		b.last(1) // still
		conn.say(nil, peer.Container{ID: web.ID, ServiceID: web.ServiceID}, peer.Container{ID: db.ID, ServiceID: db.ServiceID})
		for name, want := range map[string]string{"first": "announced 1, proved 1", "second": "announced 2, proved 2", "third": "announced 1, proved 1"} {
			if got := strings.Join(heard[name], ", "); got != want {
				t.Errorf("%s heard %q, want %q", name, got, want)
			}
		}
		for _, sub := range []*replicaWatch{first, second} {
			l.do(func() { l.drop(sub) })
		}
		clear(heard)
		b.events <- discovery.Event{Type: discovery.Removed, Service: discovery.Service{ID: web.ID}}
		synctest.Wait()
		if got := strings.Join(heard["third"], ", "); got != "announced 1" || len(heard) != 1 {
			t.Errorf("when it is gone: %v", heard)
		}
		time.Sleep(lastLook)
		synctest.Wait()
		for _, e := range b.endpoints {
			if e.ctx.Err() == nil {
				t.Error("an endpoint is followed that nobody wants to hear of")
			}
		}
		l.do(func() { l.drop(third) })
		l.cancel()
		<-l.done
	})
}

// Who was told of a replica hears of its end, too: when it is announced as one of another
// service, and when its node falls silent a moment after its announcement has gone, as
// what is under way to it waits in vain.
func TestWatchesHearOfEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, b := newWatchBench(t)
		defer b.flock.Close()
		web, moved := b.service("1", "192.0.2.1"), b.service("2", "192.0.2.2")
		services := []string{web.ServiceID, moved.ServiceID}
		var heard []string
		sub := &replicaWatch{
			func(o discovery.Service) bool { return slices.Contains(services, o.ServiceID) },
			func(r *roster, id string) {
				_, _, _, proved := r.proved(id)
				heard = append(heard, fmt.Sprintf("%s proved %t silent %t", id[:1], proved, r.silent(id)))
			},
			make(map[string]bool),
		}
		l.do(func() { l.add(sub) })
		b.announce(web)
		b.last(1).say(nil, peer.Container{ID: web.ID, ServiceID: web.ServiceID})
		b.announce(moved)
		b.last(2).say(nil, peer.Container{ID: moved.ID, ServiceID: moved.ServiceID})
		want := func(words ...string) {
			t.Helper()
			if !slices.Equal(heard, words) {
				t.Errorf("heard %q, want %q", heard, words)
			}
			heard = nil
		}
		want("1 proved false silent false", "1 proved true silent false", "2 proved false silent false", "2 proved true silent false")
		b.events <- discovery.Event{Type: discovery.Removed, Service: discovery.Service{ID: web.ID}}
		synctest.Wait()
		want("1 proved false silent false")
		b.last(2)
		b.dials[0].say(peer.ErrSilent)
		want("1 proved false silent true")
		moved.ServiceID = strings.Repeat("3", 64)
		b.announce(moved)
		want("2 proved false silent false")

		time.Sleep(2 * lastLook)
		b.announce(b.service("4", "192.0.2.4")) // what is told of nobody is forgotten by then
		if len(sub.told) > 0 {
			t.Errorf("it is still told of %v", sub.told)
		}
		l.cancel()
		<-l.done
	})
}
