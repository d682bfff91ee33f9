package watch

// The suite imports this package: what looks inside and uses it has to hand it
// constructors.

import (
	"math/rand/v2"
	"testing"
)

// gated is inotify that handles nothing while its gate is closed, and so lets
// the kernel's queue overflow.
type gated struct {
	*inotify
	gate chan struct{}
}

func (g *gated) handle(c chunk) error {
	<-g.gate
	return g.inotify.handle(c)
}

// OpenGated returns a constructor of watchers that see no event until gate is
// closed.
func OpenGated(gate chan struct{}) func(string, ...Option) (Watcher, error) {
	return func(root string, opts ...Option) (Watcher, error) {
		c := newConfig(opts)
		out := newCoalescer(c)
		return newWatcher(c, out, &gated{&inotify{path: root, dirty: out.dirty, passing: newPassing(out), kernel: system}, gate}, false)
	}
}

// lossy is inotify that loses events as an overflow does.
type lossy struct {
	*inotify
	rng *rand.Rand
}

func (l *lossy) handle(c chunk) error {
	if l.rng.IntN(10) == 0 {
		return ErrOverflow
	}
	return l.inotify.handle(c)
}

// OpenLossy makes watchers that lose every tenth chunk of events.
func OpenLossy(root string, opts ...Option) (Watcher, error) {
	c := newConfig(opts)
	c.check /= 50
	out := newCoalescer(c)
	return newWatcher(c, out, &lossy{&inotify{path: root, dirty: out.dirty, passing: newPassing(out), kernel: system}, rand.New(rand.NewPCG(rand.Uint64(), 0))}, false)
}

// OpenFailing returns a constructor of watchers whose attempts to add a watch
// fail once there are so many of an attempt to begin, until err returns nil.
func OpenFailing(granted int, err func() error) func(string, ...Option) (Watcher, error) {
	return func(root string, opts ...Option) (Watcher, error) {
		n := 0
		return newInotify(root, newConfig(opts), kernel{
			init: func(flags int) (int, error) {
				n = 0
				return system.init(flags)
			},
			add: func(fd int, path string, mask uint32) (int, error) {
				if n++; n > granted && err() != nil {
					return -1, err()
				}
				return system.add(fd, path, mask)
			},
		})
	}
}

func TestLimitNamesLowerSetting(t *testing.T) {
	for _, c := range []struct{ first, second, want string }{
		{"fs.inotify.max_user_watches", "fs.inotify.max_user_instances", "fs.inotify.max_user_instances"},
		{"fs.inotify.max_user_instances", "fs.inotify.max_user_watches", "fs.inotify.max_user_instances"},
		{"fs.inotify.max_user_watches", "not.there", "fs.inotify.max_user_watches"},
		{"not.there", "fs.inotify.max_user_watches", "fs.inotify.max_user_watches"},
	} {
		if got, value := lower(c.first, c.second); got != c.want || value <= 0 {
			t.Errorf("%s and %s: %s = %d", c.first, c.second, got, value)
		}
	}
}
