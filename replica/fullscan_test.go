package replica

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/budgiehq/budgie/replica/watch"
)

// A watcher that cannot name everything hastens the next scan, however often it says so,
// by no more than a small part of the time.
func TestFullScans(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := fullScans{every: 10 * time.Minute}
		if f.wait() != 0 {
			t.Error("the first one waits")
		}
		scan := func(took time.Duration) {
			f.begin()
			time.Sleep(took)
			f.end()
		}
		scan(time.Millisecond)
		wants := func(want time.Duration) {
			t.Helper()
			if got := f.wait(); got != want {
				t.Errorf("the next one is in %s, not in %s", got, want)
			}
		}
		wants(10*time.Minute - time.Millisecond)
		f.take(watch.Batch{Dirs: []string{"."}})
		wants(10*time.Minute - time.Millisecond)
		f.take(watch.Batch{Passed: true})
		f.take(watch.Batch{})
		wants(passedAfter - time.Millisecond)
		scan(time.Second)
		wants(10*time.Minute - time.Second)
		f.take(watch.Batch{Passed: true})
		wants(passedShare*time.Second - time.Second)
		scan(time.Hour)
		f.take(watch.Batch{Passed: true})
		wants(0) // as often as without
	})
}
