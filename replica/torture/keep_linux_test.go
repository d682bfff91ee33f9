package torture

import (
	"context"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/budgiehq/budgie/replica"
	"github.com/budgiehq/budgie/replica/replicatest"
)

// keeper keeps a copy up to date in this process, as a node does: it connects
// again when a connection has ended.
type keeper struct {
	src, dst string
	heard    chan news
}

// keep begins that, until the test ends.
func keep(t *testing.T, src, dst string, opts ...replica.Option) *keeper {
	t.Helper()
	k := &keeper{src: src, dst: dst, heard: make(chan news, 256)}
	from, to := replica.New(opts...), replica.New(append(opts, replica.Remember(keptAge, keptSize))...)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			k.tell(news{Err: k.once(ctx, from, to).Error()})
			wait(ctx, reconnect)
		}
	})
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	return k
}

// once follows over one connection.
func (k *keeper) once(ctx context.Context, from, to *replica.Copier) error {
	here, there := net.Pipe()
	defer there.Close()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		_, _ = from.Send(ctx, here, k.src) // the follower hears of it
		_ = here.Close()
	})
	defer there.Close()
	return to.Follow(ctx, there, k.dst, replica.FollowOptions{Tell: func(s replica.FollowState) { k.tell(news{State: s}) }})
}

// tell passes news on, and forgets old ones that nobody waits for.
func (k *keeper) tell(n news) {
	for {
		select {
		case k.heard <- n:
			return
		default:
		}
		select {
		case <-k.heard:
		default:
		}
	}
}

// until waits for news.
func (k *keeper) until(t *testing.T, what string, is func(news) bool) news {
	t.Helper()
	over := time.After(30 * time.Second)
	var last news
	for {
		select {
		case last = <-k.heard:
			if is(last) {
				return last
			}
		case <-over:
			t.Fatalf("waiting for %s: last %+v; %.2000s", what, last, replicatest.Diff(k.src, k.dst))
		}
	}
}

// fails waits until it is said that the copy cannot be kept, for a reason.
func (k *keeper) fails(t *testing.T, reason ...string) {
	t.Helper()
	k.until(t, strings.Join(reason, ", "), func(n news) bool {
		for _, r := range reason {
			if !strings.Contains(n.Err, r) {
				return false
			}
		}
		return true
	})
}

// equal waits until the copy is what its source is.
func (k *keeper) equal(t *testing.T) {
	t.Helper()
	n := k.until(t, "equality", func(n news) bool {
		return n.State.Phase == replica.Synced && replicatest.Diff(k.src, k.dst) == ""
	})
	if n.State.ConflictCount > 0 {
		t.Errorf("conflicts, and nothing but the source wrote: %+v", n.State.Conflicts)
	}
}
