package budgie_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/budgiehq/budgie"
	"github.com/budgiehq/budgie/internal/handover"
	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/runtime/runtimetest"
	"github.com/budgiehq/budgie/store"
	"github.com/budgiehq/budgie/store/memory"
)

// dyingStore has a supervisor that dies when somebody looks whether it is alive.
type dyingStore struct {
	*memory.Store
	die func() error
}

func (s *dyingStore) Alive(ctx context.Context, owner string) (bool, error) {
	alive, err := s.Store.Alive(ctx, owner)
	if owner == "supervisor" && alive {
		err = errors.Join(err, s.die())
	}
	return alive, err
}

// A supervisor that dies while another one asks what it hands over is followed by that
// one, as if it had been dead before.
func TestTakeOverFromADyingSupervisor(t *testing.T) {
	f := newFakes(t)
	die, err := f.store.Acquire(t.Context(), "supervisor")
	if err != nil {
		t.Fatal(err)
	}
	c := f.client(t, budgie.WithStore(&dyingStore{f.store, sync.OnceValue(die)}))
	if err := c.Supervise(t.Context(), budgie.TakingOver()); err != nil {
		t.Errorf("it ended with %v", err)
	}
}

// contestedStore has somebody else who holds an owner name for a moment.
type contestedStore struct {
	*memory.Store
	owner  string
	refuse atomic.Int32
}

func (s *contestedStore) Acquire(ctx context.Context, owner string) (func() error, error) {
	if owner == s.owner && s.refuse.Add(-1) >= 0 {
		return nil, fmt.Errorf("a third process: %w", store.ErrOwned)
	}
	return s.Store.Acquire(ctx, owner)
}

// A supervisor is replaced also where the names that this needs are another's at first:
// that of the supervisor, of somebody who wants it just when it is given back; that of
// who hands over, of the one before, who has handed over to this one a moment ago.
func TestSupervisorsNamesAreContested(t *testing.T) {
	s := newSupervisors(t, newSlowHandler())
	before := &contestedStore{Store: s.store, owner: "supervisor-handover"}
	now, ended := s.superviseOn(t, before, budgie.Resident())
	s.runDetached(t, always(web("web")))
	after := &contestedStore{Store: s.store, owner: "supervisor"}
	before.refuse.Store(3)
	after.refuse.Store(3)
	_, failed := s.superviseOn(t, after, budgie.Resident(), budgie.TakingOver())
	select {
	case err := <-failed:
		t.Fatalf("the successor ended with %v", err)
	case <-now.Replaced():
	}
	if err := <-ended; !errors.Is(err, budgie.ErrReplaced) {
		t.Errorf("the one before ended with %v", err)
	}
}

// While a supervisor is being replaced, another successor is told to come later, and not
// that there is none.
func TestSupervisorIsReplacedByOne(t *testing.T) {
	s := newSupervisors(t, newSlowHandler())
	now, _ := s.supervise(t, budgie.Resident())
	s.runDetached(t, always(web("web")))
	slow := &contestedStore{Store: s.store, owner: "supervisor"}
	slow.refuse.Store(math.MaxInt32)
	_, failed := s.superviseOn(t, slow, budgie.Resident(), budgie.TakingOver())
	for slow.refuse.Load() == math.MaxInt32 { // until it waits for the name
		select {
		case err := <-failed:
			t.Fatalf("the successor ended with %v", err)
		case <-time.After(time.Millisecond):
		}
	}
	_, second := s.supervise(t, budgie.TakingOver())
	if err := <-second; err == nil || !strings.Contains(err.Error(), "another process is taking over just now") {
		t.Errorf("the second successor ended with %v", err)
	}
	slow.refuse.Store(0)
	awaitReplaced(t, now)
}

// formerStore has a supervisor that has just gone, while the name of who hands over is
// held for the next few looks: the next one is about to come.
type formerStore struct {
	*memory.Store
	looks atomic.Int32
}

func (s *formerStore) Alive(ctx context.Context, owner string) (bool, error) {
	if owner == "supervisor-handover" && s.looks.Add(-1) >= 0 {
		return true, nil
	}
	return s.Store.Alive(ctx, owner)
}

// Between a supervisor and the next one, a third process that wants to take over waits
// for that one.
func TestTakeOverBetweenTwoSupervisors(t *testing.T) {
	f := newFakes(t)
	between := &formerStore{Store: f.store}
	between.looks.Store(3)
	c := f.client(t, budgie.WithStore(between))
	if err := c.Supervise(t.Context(), budgie.TakingOver()); err != nil {
		t.Errorf("it ended with %v", err)
	}
}

// leavingStore calls left before it gives the name of who hands over back.
type leavingStore struct {
	*memory.Store
	left func()
}

func (s *leavingStore) Acquire(ctx context.Context, owner string) (func() error, error) {
	release, err := s.Store.Acquire(ctx, owner)
	if err != nil || owner != "supervisor-handover" {
		return release, err
	}
	return func() error {
		s.left()
		return release()
	}, nil
}

// A supervisor that was replaced offers nothing any more, also while it is about to end.
func TestReplacedSupervisorOffersNothing(t *testing.T) {
	s := newSupervisors(t, newSlowHandler())
	ask := func() (*handover.Offered, error) {
		return handover.Ask(t.Context(), filepath.Join(s.dir, "handover"), "supervisor")
	}
	leaving := &leavingStore{s.store, func() {
		if again, err := ask(); !errors.Is(err, handover.ErrNone) {
			t.Errorf("it is asked again: %v, %v", again, err)
		}
	}}
	_, ended := s.superviseOn(t, leaving, budgie.Resident())
	s.runDetached(t, always(web("web")))
	offered, err := ask()
	if err != nil {
		t.Fatal(err)
	}
	defer offered.Close()
	sockets, err := offered.Release("the test")
	for _, socket := range sockets {
		socket.Close()
	}
	if err := errors.Join(err, offered.Serve()); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, budgie.ErrReplaced) {
		t.Errorf("it ended with %v", err)
	}
}

// A port that a supervisor cannot open at once, as what the one before has under way
// there has not ended, is waited for: its container goes on.
func TestAdoptionWaitsForPorts(t *testing.T) {
	var taken net.Listener // while the second supervisor adopts for the first time
	var adopted atomic.Int32
	f := newFakes(t, runtimetest.WithFault(func(op, _ string) error {
		if op == "adopt" {
			if adopted.Add(1) == 2 {
				return taken.Close()
			}
		}
		return nil
	}))
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	spec := always(web("web"))
	spec.Ports[0].HostPort = free.Addr().(*net.TCPAddr).Port
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}
	end := supervise(t, f.client(t))
	rec, err := runDetached(t, f.Client, spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := end(); !errors.Is(err, context.Canceled) {
		t.Errorf("the supervisor ended with %v", err)
	}
	addr := fmt.Sprintf("127.0.0.1:%d", spec.Ports[0].HostPort)
	if taken, err = net.Listen("tcp", addr); err != nil {
		t.Fatal(err)
	}
	adopted.Store(0)
	supervise(t, f.client(t))
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for late := time.Now().Add(20 * time.Second); ; <-tick.C { // until it serves again
		got, err := f.Get(t.Context(), rec.ID)
		if err != nil || got.State != lifecycle.Running || got.Restarts > 0 || got.PID != rec.PID || time.Now().After(late) {
			t.Fatalf("the container is %+v, %v", got, err)
		}
		if adopted.Load() < 2 {
			continue
		}
		if resp, err := http.Get(rec.URL()); err == nil {
			resp.Body.Close()
			return
		}
	}
}
