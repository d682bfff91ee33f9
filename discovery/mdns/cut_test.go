package mdns

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// cut has all packets between the nodes of a bus lost, or none any more.
func (b *bus) cut(is bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lose = func(packet) bool { return is }
}

// awaits waits until the last word of a service is that it is there, and returns for how
// long that took.
func (y *diary) awaits(t *testing.T, name string, most time.Duration) time.Duration {
	t.Helper()
	for begin := time.Now(); time.Since(begin) < most; time.Sleep(time.Second) {
		synctest.Wait()
		all := y.String()
		if added := strings.LastIndex(all, "added "+name); added >= 0 && added > strings.LastIndex(all, "removed "+name) {
			return time.Since(begin)
		}
	}
	t.Fatalf("within %v of the end of the cut %s was not there: %s", most, name, y.String())
	return 0
}

// What begins just before the network is cut is there soon after the cut, though others
// ask seldom by then.
func TestAnnouncedWhenTheNetworkIsCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bus{}
		here, _ := b.node(t, "192.0.2.1")
		there, _ := b.node(t, "192.0.2.2")
		var y diary
		y.write(t, here)
		time.Sleep(20 * time.Minute)
		announce(t, there, replica(1, "web"))
		time.Sleep(600 * time.Millisecond) // it has been proposed, not announced
		b.cut(true)
		time.Sleep(time.Minute)
		synctest.Wait()
		if all := y.String(); !strings.Contains(all, "removed web") {
			t.Fatalf("what was proposed is believed for long: %s", all)
		}
		b.cut(false)
		t.Logf("it was there again after %v", y.awaits(t, "web", time.Minute))
	})
}

// After a cut that outlasted the announcements those on both sides find each other again,
// in about as much time as passed since.
func TestFoundAgainAfterALongCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bus{}
		here, _ := b.node(t, "192.0.2.1")
		there, _ := b.node(t, "192.0.2.2")
		var ofHere, ofThere diary
		ofHere.write(t, here)
		ofThere.write(t, there)
		announce(t, here, replica(1, "near"))
		announce(t, there, replica(2, "far"))
		time.Sleep(20 * time.Minute)
		b.cut(true)
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if here, there := ofHere.String(), ofThere.String(); !strings.Contains(here, "removed far") || !strings.Contains(there, "removed near") {
			t.Fatalf("after so long a cut the other side is there still: %s and %s", here, there)
		}
		b.cut(false)
		t.Logf("the others were there again after %v and %v", ofHere.awaits(t, "far", 5*time.Minute), ofThere.awaits(t, "near", 5*time.Minute))
	})
}

// What somebody else asked before the network was cut, and whole again, stands for no
// question after that.
func TestQuestionsOfBeforeACut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bus{}
		here, _ := b.node(t, "192.0.2.1")
		other, _ := b.node(t, "192.0.2.2")
		there, _ := b.node(t, "192.0.2.3")
		announce(t, other, replica(1, "other"))
		var y diary
		y.write(t, here)
		time.Sleep(40 * time.Second) // the next question is due after 63 s
		ctx, cancel := context.WithCancel(t.Context())
		if _, err := other.Browse(ctx); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		cancel()
		b.cut(true)
		announce(t, there, replica(2, "there"))
		time.Sleep(8 * time.Second)
		b.cut(false)
		t.Logf("it was there after %v", y.awaits(t, "there", 30*time.Second))
	})
}
