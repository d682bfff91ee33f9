package watch

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// coalesced runs a coalescer in a bubble, until the test is done with it.
func coalesced(t *testing.T, c config, test func(t *testing.T, c *coalescer)) {
	synctest.Test(t, func(t *testing.T) {
		co := newCoalescer(c)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			co.run(ctx)
		}()
		test(t, co)
		cancel()
		<-done
		if _, ok := <-co.out; ok {
			t.Error("the channel is open after the end")
		}
	})
}

func plain() config { return newConfig(nil) }

func wantBatch(t *testing.T, c *coalescer, want Batch) {
	t.Helper()
	if got := <-c.out; !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func wantSince(t *testing.T, since time.Time, want time.Duration) {
	t.Helper()
	if got := time.Since(since); got != want {
		t.Errorf("after %v, want %v", got, want)
	}
}

func TestBatchWaitsForQuiet(t *testing.T) {
	coalesced(t, plain(), func(t *testing.T, c *coalescer) {
		begin := time.Now()
		for _, dir := range []string{"b", "a", "b", "."} {
			c.dirty(dir)
			time.Sleep(DefaultQuiet / 2)
		}
		wantBatch(t, c, Batch{Dirs: []string{".", "a", "b"}})
		wantSince(t, begin, 3*(DefaultQuiet/2)+DefaultQuiet)

		// The next one owes nothing to it.
		time.Sleep(time.Hour)
		begin = time.Now()
		c.dirty("c")
		wantBatch(t, c, Batch{Dirs: []string{"c"}})
		wantSince(t, begin, DefaultQuiet)
	})
}

func TestBatchDoesNotWaitForEver(t *testing.T) {
	coalesced(t, plain(), func(t *testing.T, c *coalescer) {
		begin := time.Now()
		stop, ended := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(ended)
			for {
				c.dirty("busy")
				select {
				case <-stop:
					return
				case <-time.After(time.Millisecond):
				}
			}
		}()
		wantBatch(t, c, Batch{Dirs: []string{"busy"}})
		wantSince(t, begin, DefaultMaxDelay)
		close(stop)
		<-ended
	})
}

// What happens while nobody receives comes with the batch after the one that
// waits.
func TestNobodyReceives(t *testing.T) {
	coalesced(t, plain(), func(t *testing.T, c *coalescer) {
		c.dirty("first")
		time.Sleep(time.Hour)
		c.dirty("first")
		c.dirty("second")
		time.Sleep(time.Hour)
		wantBatch(t, c, Batch{Dirs: []string{"first"}})
		begin := time.Now()
		wantBatch(t, c, Batch{Dirs: []string{"first", "second"}})
		wantSince(t, begin, 0)
	})
}

func TestReasons(t *testing.T) {
	other := errors.New("other")
	coalesced(t, plain(), func(t *testing.T, c *coalescer) {
		c.dirty("a")
		c.all(ErrOverflow)
		c.dirty("b")
		wantBatch(t, c, Batch{All: true, Reason: ErrOverflow})
		c.dirty("c")
		wantBatch(t, c, Batch{Dirs: []string{"c"}})
		// How things stand at the end.
		c.all(other)
		c.all(nil)
		wantBatch(t, c, Batch{All: true})
		c.all(nil)
		c.all(other)
		wantBatch(t, c, Batch{All: true, Reason: other})
	})
}

func TestMemoryIsBounded(t *testing.T) {
	c := plain()
	c.maxDirs = 3
	coalesced(t, c, func(t *testing.T, c *coalescer) {
		for i := range 3 {
			c.dirty(fmt.Sprint(i))
		}
		c.dirty("0") // known
		wantBatch(t, c, Batch{Dirs: []string{"0", "1", "2"}})
		for i := range 4 {
			c.dirty(fmt.Sprint(i))
		}
		c.mu.Lock()
		if len(c.dirs) != 0 || c.bytes != 0 {
			t.Errorf("%d directories, %d bytes are still remembered", len(c.dirs), c.bytes)
		}
		c.mu.Unlock()
		wantBatch(t, c, Batch{All: true, Reason: ErrTooMany})
		// Few, but long.
		c.dirty(strings.Repeat("x", 2*bytesPerDir))
		c.dirty(strings.Repeat("y", 2*bytesPerDir))
		wantBatch(t, c, Batch{All: true, Reason: ErrTooMany})
	})
}

// Whoever waits is told of the end, at whatever point it comes.
func TestEndOfBatches(t *testing.T) {
	coalesced(t, plain(), func(*testing.T, *coalescer) {})
	coalesced(t, plain(), func(_ *testing.T, c *coalescer) { c.dirty("waits for quiet") })
	coalesced(t, plain(), func(_ *testing.T, c *coalescer) {
		c.dirty("waits for a receiver")
		time.Sleep(time.Hour)
	})
}
