//go:build linux

package containerd

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/internal/containerdtest"
	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/runtime"
	"github.com/budgiehq/budgie/runtime/runtimetest"
)

// supervisorSwitch is the first argument that makes the test binary a
// supervisor, for tests to kill.
const supervisorSwitch = "containerd-test-supervisor"

// supervisor runs in a process that was started as one:
//
//	churn ADDRESS NAMESPACE DIR ID...         creates, starts, stops and removes each container again and again
//	hold ADDRESS NAMESPACE DIR ID...          adopts, prints "adopted", and supervises
//	supports ADDRESS SOURCE - -               prints what it is told of a containerd and a volume
//	live ADDRESS NAMESPACE DIR ID NETWORK N   takes a container through its life, and kills itself at step N
func supervisor() {
	if len(os.Args) < 7 || os.Args[1] != supervisorSwitch {
		return
	}
	if os.Args[2] == "supports" {
		fmt.Println(withoutPermission(os.Args[3], os.Args[4]))
		os.Exit(0)
	}
	if os.Args[2] == "live" {
		if err := liveUntil(os.Args[3:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	r, err := New(WithAddress(os.Args[3]), WithNamespace(os.Args[4]), WithDataDir(os.Args[5]))
	if err != nil {
		panic(err)
	}
	ctx := context.Background()
	var wg sync.WaitGroup
	for i, id := range os.Args[6:] {
		if os.Args[2] == "hold" {
			if _, err := r.Adopt(ctx, id); err != nil {
				panic(err)
			}
			continue
		}
		wg.Go(func() {
			for {
				if err := churn(ctx, r, id, i); err != nil {
					panic(err)
				}
			}
		})
	}
	fmt.Println("adopted")
	wg.Wait()
	<-r.ctx.Done() // never
}

// churn takes a container through its life once, in one network or another.
func churn(ctx context.Context, r *Runtime, id string, i int) error {
	what := spec(programImage, program("spawn")...)
	what.Network = []bunfile.Network{bunfile.NetworkBridge, bunfile.NetworkHost, bunfile.NetworkNone}[i%3]
	if err := r.Create(ctx, runtime.Config{ID: id, Spec: what}); err != nil {
		return err
	}
	if _, err := r.Start(ctx, id); err != nil {
		return err
	}
	return errors.Join(r.Stop(ctx, id, time.Duration(i)*time.Millisecond), r.Remove(ctx, id))
}

// startSupervisor starts one and waits for its first line.
func startSupervisor(t *testing.T, verb string, d *containerdtest.Daemon, dir string, ids ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", append([]string{supervisorSwitch, verb, d.Address, d.Namespace, dir}, ids...)...)
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

// Case R5: supervisors are killed at random moments of the containers' lives.
// The next one can always adopt, start, stop and remove them, and then neither
// task, shim, snapshot, lease, network namespace, address nor file is left.
func TestCaseR5KilledSupervisor(t *testing.T) {
	containerdtest.Need(t)
	containerdtest.EachVersion(t, testKilledSupervisor)
}

func testKilledSupervisor(t *testing.T, v containerdtest.Version) {
	d := private(t, v)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for round := range 6 {
		dir := t.TempDir()
		ids := []string{runtimetest.NewID(), runtimetest.NewID(), runtimetest.NewID()}
		cmd := startSupervisor(t, "churn", d, dir, ids...)
		kill(t, cmd, time.Duration(random.IntN(800_000))*time.Microsecond)
		next := open(t, d, dir)
		for i, id := range ids {
			takeOver(t, next, id, (round+i)%3)
		}
		if err := next.Close(); err != nil {
			t.Error(err)
		}
		left, err := os.ReadDir(dir)
		if err != nil || len(left) != 0 {
			t.Fatalf("round %d leaves %v, %v", round, left, err)
		}
		if empty(t, d); t.Failed() {
			t.FailNow()
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
	case 2:
		// What was not created, or not wholly, can be created.
		what := runtime.Config{ID: id, Spec: spec(programImage, program("sleep")...)}
		if err = r.Create(ctx, what); errors.Is(err, runtime.ErrExists) {
			err = nil
		}
	}
	if err != nil && !errors.Is(err, runtime.ErrNotFound) {
		t.Fatalf("taking over by way %d: %v", first, err)
	}
	if err := r.Stop(ctx, id, 0); err != nil && !errors.Is(err, runtime.ErrNotFound) {
		t.Fatal(err)
	}
	if err := r.Remove(ctx, id); err != nil && !errors.Is(err, runtime.ErrNotFound) {
		t.Fatal(err)
	}
}

// A supervisor was killed while libcni wrote down what the bridge gave: kills meet
// that moment too rarely.
func TestHalfWrittenNetwork(t *testing.T) {
	d := daemon(t)
	pretendFirewalld(t) // for the step after
	for way, half := range []string{"", `{"kind":"cniCacheV1","containerId":"`} {
		dir, id := t.TempDir(), runtimetest.NewID()
		killAtPoint(t, d, dir, id, bunfile.NetworkBridge, slices.Index(life, "start: open the firewall"))
		record := filepath.Join(runDir, "cni", "results", "budgie-"+id+"-eth0")
		if info, err := os.Stat(record); err != nil || info.Size() == 0 {
			t.Fatalf("libcni keeps its record elsewhere: %v", err)
		}
		if err := os.WriteFile(record, []byte(half), 0o600); err != nil {
			t.Fatal(err)
		}
		next := open(t, d, dir)
		takeOver(t, next, id, way)
		if err := next.Close(); err != nil {
			t.Error(err)
		}
		emptyDir(t, dir)
		empty(t, d)
	}
}

// A supervisor was killed after it had made the file of a network namespace, and
// before it mounted one there: kills meet that moment too rarely.
func TestNamespaceHalfMade(t *testing.T) {
	b := newBench(t)
	s := shell("exit 0")
	s.Network = bunfile.NetworkBridge
	id := b.create(s)
	path := netnsPath(id)
	if err := os.MkdirAll(filepath.Dir(path), 0o711); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Start(b.ctx, id); err != nil {
		t.Fatal(err)
	}
	if st, err := b.Wait(b.ctx, id); err != nil || st.Exit == nil || st.Exit.Code != 0 {
		t.Errorf("Wait returned %+v, %v", st, err)
	}
}

// A supervisor is killed with SIGKILL, the container goes on, and the next one
// has all of its output and its exit code. It ends only when the last supervisor is
// there: of an end before that the output that nobody has read is lost, as
// documented.
func TestAdoptAfterKill(t *testing.T) {
	b := newBench(t)
	const lines = 3000
	id := b.create(shell(fmt.Sprintf("i=0; while [ $i -lt %d ]; do echo $i; i=$((i+1)); done; while [ ! -e /tmp/go ]; do sleep 0.02; done", lines)))
	if _, err := b.Start(b.ctx, id); err != nil {
		t.Fatal(err)
	}
	if err := b.Runtime.Close(); err != nil {
		t.Fatal(err)
	}
	kill(t, startSupervisor(t, "hold", daemon(t), b.dir, id), 10*time.Millisecond)
	kill(t, startSupervisor(t, "hold", daemon(t), b.dir, id), 10*time.Millisecond)
	b.Runtime = open(t, daemon(t), b.dir)
	if _, err := b.Adopt(b.ctx, id); err != nil {
		t.Fatal(err)
	}
	b.sh(id, "touch /tmp/go")
	seen := map[string]bool{}
	for e, err := range b.Logs(b.ctx, id, runtime.LogOptions{Follow: true}) {
		if err != nil {
			t.Fatal(err)
		}
		seen[e.Line] = true
	}
	for i := range lines {
		if !seen[strconv.Itoa(i)] {
			t.Fatalf("line %d of %d was lost", i, lines)
		}
	}
	if st, err := b.Status(b.ctx, id); err != nil || st.Exit == nil || st.Exit.Code != 0 {
		t.Errorf("its end is %+v, %v", st.Exit, err)
	}
}

// A container ends, for lack of memory, while nobody supervises it. Everybody
// sees that, with the exit code, and the next supervisor records it.
func TestUnseenEnd(t *testing.T) {
	b := newBench(t)
	s := shell("echo ready; while [ ! -e /tmp/go ]; do sleep 0.02; done; tail -c 200000000 /dev/zero; exit 7")
	s.Resources.MemoryLimit, s.Resources.MemorySwap = 16<<20, 16<<20
	id, _ := b.run(s)
	b.waitFor(id, "ready")
	if err := b.Runtime.Close(); err != nil {
		t.Fatal(err)
	}
	b.Runtime = open(t, daemon(t), b.dir)
	b.sh(id, "touch /tmp/go")
	st, err := b.Wait(b.ctx, id)
	if err != nil || st.State != lifecycle.Stopped || st.Exit == nil || st.Exit.Code != 7 {
		t.Fatalf("Wait returned %+v, %v", st, err)
	}
	for range 2 {
		st, err = b.Adopt(b.ctx, id)
		if err != nil || st.Exit == nil || st.Exit.Code != 7 || !st.Exit.OOMKilled {
			t.Fatalf("Adopt returned %+v (%+v), %v", st, st.Exit, err)
		}
	}
}

// What a living supervisor looks after is not taken away from it.
func TestTwoSupervisors(t *testing.T) {
	b := newBench(t)
	id, _ := b.run(shell("sleep 1000"))
	other := open(t, daemon(t), b.dir)
	defer other.Close()
	if _, err := other.Adopt(b.ctx, id); err == nil {
		t.Error("Adopt takes it away")
	}
	if err := other.Stop(b.ctx, id, 0); err == nil {
		t.Error("Stop ends it")
	}
	if st, err := other.Status(b.ctx, id); err != nil || st.State != lifecycle.Running {
		t.Errorf("the other one sees %+v, %v", st, err)
	}
	waited := make(chan error, 1)
	go func() {
		st, err := other.Wait(b.ctx, id)
		if err == nil && (st.Exit == nil || st.Exit.Code != 137) {
			err = fmt.Errorf("the status is %+v", st)
		}
		waited <- err
	}()
	if err := b.Stop(b.ctx, id, 0); err != nil {
		t.Fatal(err)
	}
	if err := <-waited; err != nil {
		t.Error(err)
	}
}

// Output of short commands is there to the last byte, however many run.
func TestExecOutputIsWhole(t *testing.T) {
	b := newBench(t)
	id, _ := b.run(shell("sleep 1000"))
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 10 {
				var out bytes.Buffer
				code, err := b.Exec(b.ctx, id, runtime.ExecConfig{Command: []string{"echo", strconv.Itoa(i)}, Stdout: &out})
				if err != nil || code != 0 || out.String() != strconv.Itoa(i)+"\n" {
					t.Errorf("echo %d: %d, %v, %q", i, code, err, &out)
				}
			}
		})
	}
	wg.Wait()
}

// A restart of containerd under a running container loses nothing: neither the
// container, nor what it writes meanwhile, nor its exit code.
func TestContainerdRestart(t *testing.T) {
	containerdtest.Need(t)
	containerdtest.EachVersion(t, testContainerdRestart)
}

func testContainerdRestart(t *testing.T, v containerdtest.Version) {
	d := private(t, v)
	ctx := t.Context()
	r := open(t, d, t.TempDir())
	defer r.Close()
	id := runtimetest.NewID()
	what := spec(busyboxImage, "sh", "-c", "echo ready; i=0; while [ ! -e /tmp/go ]; do sleep 0.02; done; echo done; exit 9")
	if err := r.Create(ctx, runtime.Config{ID: id, Spec: what}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Start(ctx, id); err != nil {
		t.Fatal(err)
	}
	d.Kill()
	if st, err := r.Status(ctx, id); err != nil || st.State != lifecycle.Running {
		t.Errorf("without containerd the status is %+v, %v", st, err)
	}
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	// In the background: the end of the container is that of all in it.
	touch := []string{"sh", "-c", "(sleep 0.2; touch /tmp/go) </dev/null >/dev/null 2>&1 &"}
	if code, err := r.Exec(ctx, id, runtime.ExecConfig{Command: touch}); err != nil || code != 0 {
		t.Fatalf("Exec: %d, %v", code, err)
	}
	st, err := r.Wait(ctx, id)
	if err != nil || st.Exit == nil || st.Exit.Code != 9 {
		t.Fatalf("Wait: %+v, %v", st, err)
	}
	last := ""
	for e, err := range r.Logs(ctx, id, runtime.LogOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		last = e.Line
	}
	if last != "done" {
		t.Errorf("the last line is %q", last)
	}
	if err := r.Remove(ctx, id); err != nil {
		t.Fatal(err)
	}
	if left, err := d.Leftovers(); err != nil || len(left) > 0 {
		t.Errorf("left behind: %q, %v", left, err)
	}
}
