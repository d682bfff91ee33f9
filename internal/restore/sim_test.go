package restore_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/budgiehq/budgie/internal/restore"
)

// The times of package peer, by which nodes tell that they live.
const (
	beat    = 2 * time.Second
	silence = 6 * time.Second
)

// sim is a flock whose nodes tell each other over a network that loses things, in a
// synctest bubble.
type sim struct {
	t        *testing.T
	min, max int

	mu     sync.Mutex
	rand   *rand.Rand
	loss   float64        // of each sign of life
	side   map[string]int // of a partition
	nodes  map[string]*simNode
	joins  int
	backs  int
	longer time.Duration // the longest time above max
	above  time.Time
}

// simNode is a node that may die and come back with the replica that it had.
type simNode struct {
	sim   *sim
	name  string
	inbox chan word
	stop  chan struct{}
	done  chan struct{}

	// The rest is the sim's to lock.

	alive    bool
	host     bool
	replica  *restore.Instance // survives a death
	serving  time.Time
	joinDone time.Time // zero while it does not join
}

type word struct {
	from string
	told restore.Told
}

const simService = "service"

func newSim(t *testing.T, seed uint64, least, most int) *sim {
	t.Logf("seed %d", seed)
	return &sim{
		t: t, min: least, max: most, rand: rand.New(rand.NewPCG(seed, 1)), side: make(map[string]int), nodes: make(map[string]*simNode),
	}
}

// add adds a living node; with a replica, if it is said so, which a person runs.
func (s *sim) add(name string, host, replica bool) {
	n := &simNode{sim: s, name: name, host: host}
	if replica {
		n.replica = &restore.Instance{ID: "settled-" + name, Service: simService, Min: s.min, Max: s.max}
	}
	s.nodes[name] = n
	s.revive(name)
}

// join has a person join on a node.
func (s *sim) join(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	s.nodes[name].serving = now
	s.nodes[name].replica = &restore.Instance{ID: "joined-" + name, Service: simService, Joined: true, Created: now, Min: s.min, Max: s.max}
}

func (s *sim) revive(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.nodes[name]
	n.alive, n.serving = true, time.Now().Add(2*time.Second)
	n.inbox, n.stop, n.done = make(chan word, 1000), make(chan struct{}), make(chan struct{})
	go n.run(n.inbox, n.stop, n.done, s.rand.Float64())
}

func (s *sim) kill(name string) {
	s.mu.Lock()
	n := s.nodes[name]
	n.alive, n.joinDone = false, time.Time{}
	s.mu.Unlock()
	close(n.stop)
	<-n.done
}

// run is a node's life: it tells the others, hears them, and does what it has to.
func (n *simNode) run(inbox chan word, stop, done chan struct{}, phase float64) {
	defer close(done)
	<-time.After(time.Duration(phase * float64(beat)))
	tracker := restore.NewTracker(n.name, 0, time.Now())
	heard := make(map[string]time.Time)
	look, tell := time.NewTicker(250*time.Millisecond), time.NewTicker(beat)
	defer look.Stop()
	defer tell.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tell.C:
			n.sim.tell(n)
		case w := <-inbox:
			heard[w.from] = time.Now()
			tracker.Tell(time.Now(), w.from, w.told)
		case <-look.C:
			now := time.Now()
			for other, at := range heard {
				if now.Sub(at) > silence {
					delete(heard, other)
					tracker.Lose(now, other)
				}
			}
			if n.sim.look(n, tracker) {
				n.sim.tell(n)
			}
		}
	}
}

// tell brings what a node says to those that can hear it.
func (s *sim) tell(n *simNode) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(s.nodes)) {
		to := s.nodes[name]
		if to != n && to.alive && s.side[to.name] == s.side[n.name] && s.rand.Float64() >= s.loss {
			to.inbox <- word{n.name, n.told()}
		}
	}
}

func (n *simNode) told() (told restore.Told) {
	if n.host {
		told.Host = &restore.Host{}
		if !n.joinDone.IsZero() {
			told.Host.Joining = []string{simService}
		}
	}
	if n.replica != nil {
		r := *n.replica
		r.Serving = !time.Now().Before(n.serving)
		told.Replicas = []restore.Instance{r}
	}
	return told
}

// look does what a node has to, and reports whether that is news for others.
func (s *sim) look(n *simNode, tracker *restore.Tracker) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if !n.joinDone.IsZero() && !now.Before(n.joinDone) {
		n.joinDone = time.Time{}
		n.replica = &restore.Instance{ID: fmt.Sprintf("restored-%d", s.joins), Service: simService, Restored: true, Min: s.min, Max: s.max}
		n.serving = now
		s.joins++
		return true
	}
	tracker.Tell(now, n.name, n.told())
	news := false
	for _, d := range tracker.Decide(now) {
		news = true
		switch d.Action {
		case restore.Join:
			n.joinDone = now.Add(time.Second + time.Duration(s.rand.Int64N(int64(2*time.Second))))
		case restore.StepBack:
			if !n.replica.Restored && !n.replica.Joined || n.replica.ID != d.Replica {
				s.t.Errorf("%s steps back with %+v, told %+v", n.name, n.replica, d)
			}
			n.replica = nil
			s.backs++
		}
	}
	return news
}

// cut moves nodes to the other side of a partition.
func (s *sim) cut(names ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range names {
		s.side[name] = 1 - s.side[name]
	}
}

// heal makes the network whole.
func (s *sim) heal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loss = 0
	clear(s.side)
}

// replicas counts the living ones, and those of them that serve.
func (s *sim) replicas() (n, serving int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, node := range s.nodes {
		if node.alive && node.replica != nil {
			n++
			serving += count(!time.Now().Before(node.serving))
		}
	}
	return n, serving
}

// pass lets time pass. During it, it notes for how long there are too many replicas.
func (s *sim) pass(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); <-time.After(100 * time.Millisecond) {
		switch _, n := s.replicas(); {
		case s.max == 0 || n <= s.max:
			s.above = time.Time{}
		case s.above.IsZero():
			s.above = time.Now()
		default:
			s.longer = max(s.longer, time.Since(s.above))
		}
	}
}

func (s *sim) want(n int, when string) {
	s.t.Helper()
	if got, _ := s.replicas(); got != n {
		s.t.Errorf("%s there are %d replicas, want %d (%d joined, %d stepped back)", when, got, n, s.joins, s.backs)
	}
}

func (s *sim) end() {
	for name, n := range s.nodes {
		if n.alive {
			s.kill(name)
		}
	}
}

// simulate runs a simulation with several seeds.
func simulate(t *testing.T, least, most int, f func(*testing.T, *sim)) {
	first := rand.Uint64()
	for i := range uint64(2) {
		synctest.Test(t, func(t *testing.T) {
			s := newSim(t, first+i, least, most)
			defer s.end()
			f(t, s)
		})
	}
}

// A node dies, exactly one other takes its place; it returns, and exactly that one
// steps back.
func TestSimDeathAndReturn(t *testing.T) {
	for _, most := range []int{0, 2, 3} {
		t.Run(fmt.Sprint("Max", most), func(t *testing.T) {
			simulate(t, 2, most, func(_ *testing.T, s *sim) {
				s.add("a", true, true)
				s.add("b", true, true)
				for _, name := range []string{"c", "d", "e"} {
					s.add(name, true, false)
				}
				s.pass(time.Minute)
				s.want(2, "at first")
				s.kill("a")
				s.pass(14 * time.Second)
				s.want(1, "before the dead one's time is over")
				s.pass(12 * time.Second)
				s.want(2, "after a death")
				s.pass(time.Minute)
				s.revive("a")
				s.pass(time.Minute)
				s.want(2, "after its return")
				if s.joins != 1 || s.backs != 1 || s.longer > silence {
					s.t.Errorf("%d joined, and %d stepped back; %v above the maximum", s.joins, s.backs, s.longer)
				}
			})
		})
	}
}

// The one that restored dies, too, and comes back after another did in its place.
func TestSimRestorerDies(t *testing.T) {
	simulate(t, 2, 2, func(_ *testing.T, s *sim) {
		s.add("a", false, true)
		s.add("b", false, true)
		s.add("c", true, false)
		s.add("d", true, false)
		s.pass(30 * time.Second)
		s.kill("a")
		s.pass(30 * time.Second)
		first := "c"
		if s.nodes["d"].replica != nil {
			first = "d"
		}
		s.kill(first)
		s.pass(30 * time.Second)
		s.want(2, "after a second death")
		s.revive(first)
		s.pass(time.Minute)
		s.want(2, "after its return")
		s.revive("a")
		s.pass(time.Minute)
		s.want(2, "after all returned")
		if s.nodes["a"].replica == nil || s.nodes["b"].replica == nil || s.longer > silence {
			s.t.Errorf("the first ones are not those that stay, or it takes %v", s.longer)
		}
	})
}

// A network that loses signs of life, so that nodes fall silent for each other now
// and then, makes nobody join.
func TestSimLossyNetwork(t *testing.T) {
	simulate(t, 2, 3, func(_ *testing.T, s *sim) {
		for _, name := range []string{"a", "b"} {
			s.add(name, true, true)
		}
		for _, name := range []string{"c", "d", "e"} {
			s.add(name, true, false)
		}
		s.loss = 0.2
		s.pass(10 * time.Minute)
		if s.joins+s.backs > 0 {
			s.t.Errorf("%d joined, and %d stepped back", s.joins, s.backs)
		}
		// It restores all the same, and once.
		s.kill("a")
		s.pass(5 * time.Minute)
		s.want(2, "after a death")
		if s.joins > 2 {
			s.t.Errorf("%d joined", s.joins)
		}
	})
}

// Both sides of a partition restore, as far as they can, and what is too much goes
// when it ends.
func TestSimPartition(t *testing.T) {
	for _, most := range []int{0, 2} {
		t.Run(fmt.Sprint("Max", most), func(t *testing.T) {
			simulate(t, 2, most, func(_ *testing.T, s *sim) {
				s.add("a", true, true)
				s.add("b", true, true)
				s.add("c", true, false)
				s.add("d", true, false)
				s.pass(time.Minute)
				s.cut("a", "c")
				s.pass(time.Minute)
				s.want(4, "on two sides")
				s.heal()
				s.above, s.longer = time.Time{}, 0 // the sides did not know
				s.pass(2 * time.Minute)
				s.want(2, "after the partition")
				if s.joins != 2 || s.backs != 2 || s.longer > silence {
					s.t.Errorf("%d joined, and %d stepped back; %v above the maximum", s.joins, s.backs, s.longer)
				}
			})
		})
	}
}

// People have replicas join on both sides of a partition, as many as there is room for
// where they see. When it ends, those that joined last end, and soon; that the network
// is a bad one then ends no other one.
func TestSimJoinsApart(t *testing.T) {
	for _, loss := range []float64{0, 0.2} {
		t.Run(fmt.Sprint("Loss", loss), func(t *testing.T) {
			simulate(t, 1, 3, func(_ *testing.T, s *sim) {
				s.add("a", true, true)
				for _, name := range []string{"b", "c", "d", "e"} {
					s.add(name, name == "d", false)
				}
				s.pass(time.Minute)
				s.cut("c", "d")
				for _, name := range []string{"b", "c", "d", "e"} {
					s.join(name)
					s.pass(10 * time.Second)
				}
				s.want(5, "on two sides")
				s.heal()
				s.loss = loss
				s.above, s.longer = time.Time{}, 0
				s.pass(time.Minute)
				s.want(3, "after the partition")
				if loss == 0 && s.longer > silence {
					s.t.Errorf("%v above the maximum", s.longer)
				}
				s.pass(10 * time.Minute)
				s.want(3, "later")
				for _, name := range []string{"a", "b", "c"} {
					if s.nodes[name].replica == nil {
						s.t.Errorf("%s, which was among the first, has none any more", name)
					}
				}
			})
		})
	}
}

// A pair: either may die, the other serves, and nothing is left to undo.
func TestSimPair(t *testing.T) {
	simulate(t, 2, 2, func(_ *testing.T, s *sim) {
		s.add("a", true, true)
		s.add("b", true, false)
		s.pass(time.Minute)
		s.want(2, "at first")
		for _, name := range []string{"a", "b"} {
			s.kill(name)
			s.pass(time.Minute)
			s.want(1, "without "+name)
			s.revive(name)
			s.pass(time.Minute)
			s.want(2, "with both again")
		}
		if s.joins != 1 || s.backs != 0 || s.longer > 0 {
			s.t.Errorf("%d joined, and %d stepped back; %v above the maximum", s.joins, s.backs, s.longer)
		}
	})
}

// Whatever happens, and in whatever order: when it is over, there are as many
// replicas as there should be, and no more.
func TestSimAnything(t *testing.T) {
	simulate(t, 3, 4, func(_ *testing.T, s *sim) {
		names := []string{"a", "b", "c", "d", "e", "f", "g"}
		for i, name := range names {
			s.add(name, i > 0, i < 3)
		}
		for range 25 {
			s.mu.Lock()
			name, what, d := names[s.rand.IntN(len(names))], s.rand.IntN(5), s.rand.IntN(40)
			alive, left := s.nodes[name].alive, 0
			for _, n := range s.nodes {
				left += count(n.alive)
			}
			s.mu.Unlock()
			switch {
			case what < 2 && alive && left > 3:
				s.kill(name)
			case what < 3 && !alive:
				s.revive(name)
			case what == 3:
				s.cut(name)
			case what == 4:
				s.mu.Lock()
				s.loss = float64(d) / 100
				s.mu.Unlock()
			}
			s.pass(time.Duration(d) * time.Second)
		}
		s.heal()
		for _, name := range names {
			if !s.nodes[name].alive {
				s.revive(name)
			}
		}
		s.pass(3 * time.Minute)
		s.want(3, "when it is over")
		joins, backs := s.joins, s.backs
		s.pass(10 * time.Minute)
		if joins != s.joins || backs != s.backs {
			s.t.Errorf("later %d join and %d step back", s.joins-joins, s.backs-backs)
		}
	})
}
