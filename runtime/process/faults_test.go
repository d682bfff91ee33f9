//go:build linux || darwin

package process

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/runtime"
	"github.com/budgiehq/budgie/runtime/runtimetest"
)

// supervisorSwitch is the first argument that makes the test binary a
// supervisor, for tests to kill.
const supervisorSwitch = "process-test-supervisor"

// supervisor runs in a process that was started as one:
//
//	churn DIR ID...   creates, starts, stops and removes each container again and again
//	hold DIR [ID...]  adopts, prints "adopted", and supervises
func supervisor() {
	if len(os.Args) < 4 || os.Args[1] != supervisorSwitch {
		return
	}
	r, err := New(os.Args[3])
	if err != nil {
		panic(err)
	}
	ctx := context.Background()
	var wg sync.WaitGroup
	for _, id := range os.Args[4:] {
		if os.Args[2] == "hold" {
			if _, err := r.Adopt(ctx, id); err != nil {
				panic(err)
			}
			continue
		}
		wg.Go(func() {
			for i := 0; ; i++ {
				if err := churn(ctx, r, id, i); err != nil {
					panic(err)
				}
				fmt.Println("round")
			}
		})
	}
	if os.Args[2] == "hold" {
		fmt.Println("adopted")
	}
	wg.Wait()
	<-r.ctx.Done() // never
}

// churn takes a container through its life once.
func churn(ctx context.Context, r *Runtime, id string, i int) error {
	what := spec([]string{"spawn", "orphan", "stubborn", "exit"}[i%4], "3")
	if err := r.Create(ctx, runtime.Config{ID: id, Spec: what}); err != nil {
		return err
	}
	if _, err := r.Start(ctx, id); err != nil {
		return err
	}
	return errors.Join(r.Stop(ctx, id, time.Duration(i%3)*5*time.Millisecond), r.Remove(ctx, id))
}

// startSupervisor starts one and waits for its first line.
func startSupervisor(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(self(), append([]string{supervisorSwitch}, args...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // for a test that fails before it has killed it
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	})
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("the supervisor said nothing: %v", err)
	}
	return cmd
}

// kill kills a supervisor with SIGKILL after some time.
func kill(t *testing.T, cmd *exec.Cmd, after time.Duration) {
	t.Helper()
	<-time.After(after)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.Exited() {
		t.Fatalf("the supervisor ended by itself: %v", err)
	}
}

// wantNoProcess checks that nothing of a container runs.
func wantNoProcess(t *testing.T, id string) {
	t.Helper()
	left, err := members(id, nil)
	if err != nil || len(left) != 0 {
		t.Errorf("of container %.12s the processes %v are left (%v)", id, left, err)
	}
}

// TestKilledSupervisor kills supervisors at random moments of the containers'
// lives. The next one can always adopt, start, stop and remove them, and then
// neither a process nor a file is left.
func TestKilledSupervisor(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for round := range 12 {
		dir := t.TempDir()
		ids := []string{runtimetest.NewID(), runtimetest.NewID(), runtimetest.NewID()}
		cmd := startSupervisor(t, append([]string{"churn", dir}, ids...)...)
		kill(t, cmd, time.Duration(random.IntN(100_000))*time.Microsecond)
		next := open(t, dir)
		for i, id := range ids {
			takeOver(t, next, id, (round+i)%3)
			wantNoProcess(t, id)
		}
		if err := next.Close(); err != nil {
			t.Error(err)
		}
		left, err := os.ReadDir(dir)
		if err != nil || len(left) != 0 {
			t.Fatalf("round %d leaves %v, %v", round, left, err)
		}
	}
}

// takeOver does with a container what a next supervisor may begin with, and
// removes it.
func takeOver(t *testing.T, r *Runtime, id string, first int) {
	t.Helper()
	ctx := t.Context()
	var err error
	switch first {
	case 0:
		_, err = r.Adopt(ctx, id)
	case 1:
		if _, err = r.Start(ctx, id); errors.Is(err, runtime.ErrRunning) {
			err = nil
		}
	}
	if err != nil && !errors.Is(err, runtime.ErrNotFound) {
		t.Fatalf("taking over by way %d: %v", first, err)
	}
	err = r.Stop(ctx, id, 0)
	if err == nil {
		st, serr := r.Status(ctx, id)
		if serr != nil || st.State == lifecycle.Running {
			t.Fatalf("after Stop the status is %+v, %v", st, serr)
		}
	} else if !errors.Is(err, runtime.ErrNotFound) {
		t.Fatal(err)
	}
	if err := r.Remove(ctx, id); err != nil && !errors.Is(err, runtime.ErrNotFound) {
		t.Fatal(err)
	}
}

// TestNoLineIsLost kills one supervisor after the other while a container
// writes. It lives on when it has written all: what nobody has read of a
// container that ends is lost with it where nobody supervises it, as documented.
func TestNoLineIsLost(t *testing.T) {
	if !lossless {
		t.Skip("documented: on this system a killed supervisor can lose the last piece of output")
	}
	const lines = 6000
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	dir := t.TempDir()
	id := runtimetest.NewID()
	first := open(t, dir)
	if err := first.Create(t.Context(), runtime.Config{ID: id, Spec: spec("count", strconv.Itoa(lines), "stay")}); err != nil {
		t.Fatal(err)
	}
	if _, err := first.Start(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	const kills = 6
	for range kills {
		kill(t, startSupervisor(t, "hold", dir, id), time.Duration(random.IntN(60))*time.Millisecond)
	}
	last := open(t, dir)
	defer last.Close()
	if _, err := last.Adopt(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for e, err := range last.Logs(t.Context(), id, runtime.LogOptions{Follow: true}) {
		if err != nil {
			t.Fatal(err)
		}
		if seen[e.Line] = true; e.Line == strconv.Itoa(lines-1) {
			break
		}
	}
	if err := last.Stop(t.Context(), id, 0); err != nil {
		t.Error(err)
	}
	for i := range lines {
		if !seen[strconv.Itoa(i)] {
			t.Fatalf("line %d of %d was lost in %d kills", i, lines, kills)
		}
	}
}

// TestUnseenEnd: a container ends while nobody supervises it. Everybody sees
// that, without the exit code, and the next supervisor records it.
func TestUnseenEnd(t *testing.T) {
	dir := t.TempDir()
	id := runtimetest.NewID()
	r := open(t, dir)
	defer r.Close()
	cmd := startSupervisor(t, "hold", t.TempDir())
	alive, err := identify(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	// The record of a container whose supervisor is alive, and whose process
	// is: this supervisor's own, for want of another that is not our child.
	if err := r.Create(t.Context(), runtime.Config{ID: id, Spec: spec("sleep")}); err != nil {
		t.Fatal(err)
	}
	st, err := r.Start(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	r = open(t, dir)
	defer r.Close()
	c, err := r.load(id)
	if err != nil || c.Owner != nil {
		t.Fatalf("after Close the owner is %v, %v", c.Owner, err)
	}
	forged := c
	forged.Owner = &owner{Process: alive.identity, Instance: "other"}
	if err := r.save(id, forged); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Adopt(t.Context(), id); err == nil {
		t.Error("a container is taken away from its living supervisor")
	}
	waited := make(chan runtime.Status, 1)
	go func() {
		st, err := r.Wait(t.Context(), id)
		if err != nil {
			t.Error(err)
		}
		waited <- st
	}()
	p, err := os.FindProcess(st.PID)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	// Its supervisor could still record the end.
	if st, err := r.Status(t.Context(), id); err != nil || st.State != lifecycle.Running {
		t.Errorf("status is %+v, %v while the supervisor has not recorded the end", st, err)
	}
	kill(t, cmd, 0)
	st = <-waited
	if st.State != lifecycle.Stopped || st.Exit == nil || st.Exit.Code != lifecycle.UnknownExitCode {
		t.Errorf("Wait returned %+v", st)
	}
	if st, err := r.Adopt(t.Context(), id); err != nil || st.Exit == nil {
		t.Errorf("Adopt returned %+v, %v", st, err)
	}
	if c, err := r.load(id); err != nil || c.Process != nil || c.Exit == nil {
		t.Errorf("the record after Adopt is %+v, %v", c, err)
	}
}
