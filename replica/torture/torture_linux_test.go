package torture

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/budgiehq/budgie/replica"
	"github.com/budgiehq/budgie/replica/replicatest"
)

// The environment that says for how long, and with which choices.
const (
	durationEnv = "BUDGIE_TORTURE"
	seedEnv     = "BUDGIE_TORTURE_SEED"
)

// patience is how long a copy may take to become what its source is, once nothing
// happens any more.
const patience = 60 * time.Second

// room is how large the file system of the copy is when all is well.
const room = 1 << 30

// world is a source, a copy, and all that is done to them.
type world struct {
	t      *testing.T
	random *rand.Rand
	churn  *churner
	link   *link
	// src is followed by dst, in its place, which is a file system of its own.
	src, dst, place string
	small           bool

	sender, follower *side
	stopped          []*side

	mu        sync.Mutex
	conflicts []replica.Conflict
	// states wakes whoever waits for the next one.
	states chan news
	deeds  []string
	counts map[string]int
}

func TestTorture(t *testing.T) {
	duration := 25 * time.Second
	if text := os.Getenv(durationEnv); text != "" {
		var err error
		if duration, err = time.ParseDuration(text); err != nil {
			t.Fatalf("%s: %v", durationEnv, err)
		}
	}
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv(seedEnv); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("%s: %v", seedEnv, err)
		}
	}
	t.Logf("%s=%d %s=%s", seedEnv, seed, durationEnv, duration)
	w := newWorld(t, seed)
	outside := w.outside()
	began := time.Now()
	rounds, slowest := 0, time.Duration(0)
	for ; time.Since(began) < duration; rounds++ {
		w.torture(time.Duration(1+w.random.IntN(4)) * time.Second)
		before := photo(t, w.src)
		slowest = max(slowest, w.converge())
		if diff := changed(before, photo(t, w.src)); diff != "" {
			w.fail("the source was touched: %s", diff)
		}
		if diff := changed(outside, w.outside()); diff != "" {
			w.fail("something beside the copy was touched: %s", diff)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	t.Logf("%d rounds, the slowest to converge took %s; %v", rounds, slowest.Round(time.Millisecond), w.counts)
}

// newWorld returns one in which a copy follows.
func newWorld(t *testing.T, seed uint64) *world {
	base := t.TempDir()
	w := &world{
		t: t, random: rand.New(rand.NewPCG(seed, 1)), link: newLink(t), src: filepath.Join(base, "source"), place: filepath.Join(base, "place"),
		states: make(chan news, 1), counts: make(map[string]int),
	}
	w.dst = filepath.Join(w.place, "copy")
	must(t, os.Mkdir(w.src, 0o755), os.Mkdir(w.place, 0o755))
	root := os.Geteuid() == 0
	if root {
		must(t, unix.Mount("tmpfs", w.place, "tmpfs", 0, fmt.Sprint("size=", room)))
		t.Cleanup(func() { _ = unix.Unmount(w.place, unix.MNT_DETACH) })
	}
	w.small = root
	for _, dir := range []string{base, w.place} {
		put(t, dir, "outside/file", "never touched")
		put(t, dir, "outside/dir/file", "never touched")
	}
	put(t, w.src, stays, "stays")
	put(t, w.src, stays+"2", "stays")
	w.churn = &churner{random: rand.New(rand.NewPCG(seed, 2)), dir: w.src, root: root,
		outside: []string{filepath.Join(base, "outside/file"), filepath.Join(base, "outside/dir"), "../outside/dir", "../outside/file", filepath.Join(w.place, "outside/dir")}}
	w.churn.do(600)
	w.sender = &side{role: "send", dir: w.src, lines: w.link.sendTo}
	w.follower = &side{role: "follow", dir: w.dst, link: w.link.ln.Addr().String(), lines: w.hear}
	w.sender.start(t)
	w.follower.start(t)
	t.Cleanup(func() {
		w.sender.kill()
		w.follower.kill()
	})
	return w
}

// outside is a photo of all that belongs to nobody here.
func (w *world) outside() map[string]string {
	return photo(w.t, filepath.Dir(w.src), w.src, w.src+remembered, w.dst, w.dst+".index", w.dst+".index.new", w.dst+".ours", w.dst+".kept", w.dst+".lock")
}

// hear takes a line of the follower.
func (w *world) hear(line string) {
	n, ok := decode(line)
	if !ok {
		return
	}
	w.mu.Lock()
	w.conflicts = append(w.conflicts, n.State.Conflicts...)
	if n.Err != "" {
		w.note("follower: " + n.Err)
	}
	w.counts["told "+string(n.State.Phase)]++
	if strings.Contains(n.Err, syscall.ENOSPC.Error()) {
		w.counts["told that there is no room"]++
	}
	w.mu.Unlock()
	select {
	case <-w.states: // the last one counts
	default:
	}
	w.states <- n
}

// note writes a deed down. The caller holds the lock.
func (w *world) note(what string) {
	w.deeds = append(w.deeds, time.Now().Format("05.000 ")+what)
	w.deeds = w.deeds[max(0, len(w.deeds)-150):]
}

// fail ends the test, and says what was done last.
func (w *world) fail(format string, args ...any) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	sent, _ := w.sender.errs.read()
	followed, _ := w.follower.errs.read()
	w.t.Fatalf("%s\n\nfaults:\n%s\n\nchanges:\n%q\n\nsender:\n%s\n\nfollower:\n%s", fmt.Sprintf(format, args...), strings.Join(w.deeds, "\n"),
		w.churn.deeds, sent, followed)
}

// torture changes the source for a while, while all goes wrong.
func (w *world) torture(d time.Duration) {
	ctx, cancel := context.WithTimeout(w.t.Context(), d)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			w.churn.do(1 + w.churn.random.IntN(1<<w.churn.random.IntN(10)))
			wait(ctx, time.Duration(w.churn.random.IntN(300))*time.Millisecond)
		}
	})
	for ctx.Err() == nil {
		f := faults[w.random.IntN(len(faults))]
		w.mu.Lock()
		w.note(f.name)
		w.counts[f.name]++
		w.mu.Unlock()
		f.do(w)
		wait(ctx, time.Duration(w.random.IntN(1<<w.random.IntN(10)))*time.Millisecond)
	}
	wg.Wait()
	w.heal()
}

// fault is something that goes wrong.
type fault struct {
	name string
	do   func(*world)
}

var faults = []fault{
	{"cut", func(w *world) { w.link.cut() }},
	{"cut later", func(w *world) { w.link.cutAfter(w.random.IntN(1 << w.random.IntN(22))) }},
	{"cut later", func(w *world) { w.link.cutAfter(w.random.IntN(1 << w.random.IntN(22))) }},
	{"slow", func(w *world) { w.link.limit(1 << (14 + w.random.IntN(8))) }},
	{"fast", func(w *world) { w.link.limit(0) }},
	{"stuck", func(w *world) { w.link.hold() }},
	{"not stuck", func(w *world) { w.link.release() }},
	{"kill the sender", func(w *world) { w.restart(w.sender) }},
	{"kill the follower", func(w *world) { w.restart(w.follower) }},
	{"kill the follower", func(w *world) { w.restart(w.follower) }},
	{"stop the sender", func(w *world) { w.stop(w.sender) }},
	{"stop the follower", func(w *world) { w.stop(w.follower) }},
	{"go on", (*world).goOn},
	{"no room", (*world).fill},
	{"room", (*world).empty},
	{"lost events", (*world).overflow},
	{"all is well", (*world).heal},
	// Most of the time something gets through, or nothing would be interrupted.
	{"peace", (*world).peace}, {"peace", (*world).peace}, {"peace", (*world).peace}, {"peace", (*world).peace},
}

func (w *world) restart(s *side) {
	w.check(s)
	s.kill()
	s.start(w.t)
}

// check ends the test if a process has crashed.
func (w *world) check(s *side) {
	if _, crashed := s.errs.read(); crashed || s.died() {
		w.fail("the process that has to %s crashed", s.role)
	}
}

func (w *world) stop(s *side) {
	s.signal(syscall.SIGSTOP)
	w.stopped = append(w.stopped, s)
}

func (w *world) goOn() {
	for _, s := range w.stopped {
		s.signal(syscall.SIGCONT)
	}
	w.stopped = nil
}

// fill leaves next to no room, for files or for names.
func (w *world) fill() {
	bytes, files := used(w.t, w.place)
	bytes += uint64(w.random.IntN(1 << w.random.IntN(17)))
	files += uint64(w.random.IntN(20))
	if w.random.IntN(3) > 0 {
		w.resize(bytes, 0)
	} else {
		w.resize(room, files)
	}
}

func (w *world) empty() { w.resize(room, 0) }

// resize changes the file system of the copy. It fails where that has grown
// meanwhile.
func (w *world) resize(bytes, files uint64) {
	if w.small {
		_ = unix.Mount("", w.place, "", unix.MS_REMOUNT, fmt.Sprintf("size=%d,nr_inodes=%d", bytes, files))
	}
}

// overflow makes more events than there is place for while nobody takes them.
func (w *world) overflow() {
	w.stop(w.sender)
	if err := w.churn.flood(); err != nil {
		w.fail("%v", err)
	}
}

// peace ends what holds up, not what is missing, for a moment.
func (w *world) peace() {
	w.goOn()
	w.link.heal()
	wait(w.t.Context(), time.Duration(w.random.IntN(400))*time.Millisecond)
}

// heal ends all that is wrong.
func (w *world) heal() {
	w.goOn()
	w.empty()
	w.link.heal()
}

// converge waits until the copy is what its source is.
func (w *world) converge() time.Duration {
	w.t.Helper()
	began := time.Now()
	over := time.After(patience)
	var last news
	var late atomic.Bool
	for diff := "not seen yet"; diff != ""; {
		select {
		case last = <-w.states:
		case <-over:
			late.Store(true)
		}
		if late.Load() {
			w.fail("not equal after %s; the follower last said %+v:\n%.4000s", patience, last, replicatest.Diff(w.src, w.dst))
		}
		w.check(w.sender)
		w.check(w.follower)
		if last.State.Phase == replica.Synced {
			diff = replicatest.Diff(w.src, w.dst)
		}
	}
	took := time.Since(began)
	if diff := rsyncDiff(w.t, w.src, w.dst); diff != "" {
		w.fail("rsync would do this:\n%s", diff)
	}
	w.mu.Lock()
	conflicts := w.conflicts
	w.mu.Unlock()
	if len(conflicts) > 0 {
		w.fail("conflicts, and nothing but the source wrote: %+v", conflicts[:min(5, len(conflicts))])
	}
	return took
}
