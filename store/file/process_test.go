package file_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/store"
)

// patience bounds the wait for what must happen.
const patience = 20 * time.Second

func TestManyProcessesLoseNoUpdate(t *testing.T) {
	const processes, increments = 8, 25
	dir := t.TempDir()
	s := open(t, dir)
	if _, err := s.Put(t.Context(), lifecycle.Container{ID: "counter", Name: "counter"}); err != nil {
		t.Fatal(err)
	}
	var children []*process
	for range processes {
		children = append(children, start(t, "increment "+strconv.Itoa(increments), dir))
	}
	for _, p := range children {
		if err := p.cmd.Wait(); err != nil {
			t.Errorf("child: %v", err)
		}
	}
	c, err := s.Get(t.Context(), "counter")
	if err != nil {
		t.Fatal(err)
	}
	if c.Restarts != processes*increments || c.Revision != processes*increments+1 {
		t.Errorf("%d increments gave %d at revision %d", processes*increments, c.Restarts, c.Revision)
	}
}

// The promise is 50 ms from the end of one process's Put to the moment when
// another, woken by its Watch, has read the change. The median is taken of
// several, as the machine may be busy with something else at any one moment.
func TestWatchSeesOtherProcessesInTime(t *testing.T) {
	const rounds, limit = 15, 50 * time.Millisecond
	dir := t.TempDir()
	s := open(t, dir)
	changes, err := s.Watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p := start(t, "put-on-demand", dir)
	var delays []time.Duration
	for n := 1; n <= rounds; n++ {
		if _, err := io.WriteString(p.in, "\n"); err != nil {
			t.Fatal(err)
		}
		for seen := false; !seen; {
			select {
			case <-changes:
			case <-time.After(patience):
				t.Fatalf("change %d was never seen", n)
			}
			c, err := s.Get(t.Context(), "watched")
			if err != nil && !errors.Is(err, store.ErrNotFound) {
				t.Fatal(err)
			}
			seen = err == nil && c.Restarts == n
		}
		now := time.Now()
		delays = append(delays, now.Sub(time.Unix(0, p.mustLine())))
	}
	slices.Sort(delays)
	t.Logf("delays: %v", delays)
	if median := delays[rounds/2]; median > limit {
		t.Errorf("the median delay is %v, more than %v, of %v", median, limit, delays)
	}
}

func TestKilledOwnerFreesItsName(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	p := start(t, "hold supervisor", dir)
	pid := p.mustLine()
	if alive, err := s.Alive(t.Context(), "supervisor"); err != nil || !alive {
		t.Errorf("Alive while the owner lives: %v, %v", alive, err)
	}
	_, err := s.Acquire(t.Context(), "supervisor")
	if !errors.Is(err, store.ErrOwned) || !strings.Contains(err.Error(), fmt.Sprint("process ", pid)) {
		t.Errorf("Acquire: want an ErrOwned that names process %d, got %v", pid, err)
	}
	p.kill()
	if alive, err := s.Alive(t.Context(), "supervisor"); err != nil || alive {
		t.Errorf("Alive after the owner's death: %v, %v", alive, err)
	}
	release, err := s.Acquire(t.Context(), "supervisor")
	if err != nil {
		t.Fatalf("Acquire after the owner's death: %v", err)
	}
	if err := release(); err != nil {
		t.Error(err)
	}
}

// An owner starts containers, which outlive it: they must not keep its name.
func TestChildrenDoNotKeepTheName(t *testing.T) {
	if _, err := exec.LookPath("sleep"); err != nil {
		t.Fatalf("this test needs the program sleep: %v", err)
	}
	dir := t.TempDir()
	s := open(t, dir)
	p := start(t, "hold-with-child supervisor", dir)
	sleeper, err := os.FindProcess(int(p.mustLine()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sleeper.Release() })
	p.kill()
	if alive, err := s.Alive(t.Context(), "supervisor"); err != nil || alive {
		t.Errorf("Alive while only the owner's child lives: %v, %v", alive, err)
	}
	if err := sleeper.Kill(); err != nil {
		t.Errorf("the child has not outlived its owner, so nothing was tested: %v", err)
	}
}

// The same, where the owner gives the name back while its child lives.
func TestReleaseWhileChildLives(t *testing.T) {
	s := open(t, t.TempDir())
	release, err := s.Acquire(t.Context(), "supervisor")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	if err := release(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Acquire(t.Context(), "supervisor"); err != nil {
		t.Errorf("Acquire after release: %v", err)
	}
}
