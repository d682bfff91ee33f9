//go:build linux

package containerd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/internal/containerdtest"
	"github.com/budgiehq/budgie/runtime"
	"github.com/budgiehq/budgie/runtime/runtimetest"
)

// life are the steps of a container's life on the bridge, in order: every point
// at which the walk kills somebody. Where there is no firewalld, they are the same
// without the firewall's, and in the host's network without those of any network, and
// with "set the ports".
var life = []string{
	"create: delete the snapshot",
	"create: delete the container",
	"create: delete the lease",
	"create: remove the directories",
	"create: make the directory",
	"create: take a lease",
	"create: make volume sources",
	"create: get the image",
	"create: write the files",
	"create: make the snapshot",
	"create: make the specification",
	"create: mount the file system",
	"create: unmount the file system",
	"create: make the container",
	"create: name the directory",
	"create: release the lease",
	"start: make the network namespace",
	"start: make the pipes",
	"start: record the start",
	"start: make the task",
	"start: connect to the bridge", // while the task is being made
	"start: open the firewall",
	"start: record the task",
	"start: start the task",
	"stop: signal the first process",
	"stop: kill all processes",
	"end: ask why it ended",
	"end: record the end",
	"end: delete the task",
	"end: close the firewall",
	"end: disconnect from the bridge",
	"end: remove the network namespace",
	"end: read the output to its end",
	"end: finish the log",
	"end: record that nothing is left",
	"remove: rename the directory",
	"remove: delete the snapshot",
	"remove: delete the container",
	"remove: delete the lease",
	"remove: remove the directories",
}

// lifeOn returns the steps in a network.
func lifeOn(network bunfile.Network) []string {
	var steps []string
	for _, s := range life {
		switch {
		case network == bunfile.NetworkBridge && strings.Contains(s, "the firewall") && !firewalld():
			continue
		case network == bunfile.NetworkBridge:
		case strings.Contains(s, "network namespace"), strings.Contains(s, "the bridge"), strings.Contains(s, "the firewall"):
			continue
		case s == "start: make the task":
			steps = append(steps, "start: set the ports")
		}
		steps = append(steps, s)
	}
	return steps
}

// live takes a container through its life once. It does not heed its stop
// signal, so that it has to be killed, too.
func live(ctx context.Context, r *Runtime, id string, network bunfile.Network) error {
	what := spec(programImage, program("stubborn")...)
	what.Network = network
	what.Ports = []bunfile.Port{{ContainerPort: 80}}
	if err := r.Create(ctx, runtime.Config{ID: id, Spec: what}); err != nil {
		return err
	}
	if _, err := r.Start(ctx, id); err != nil {
		return err
	}
	for e, err := range r.Logs(ctx, id, runtime.LogOptions{Follow: true}) {
		if err != nil || e.Line == "ready" {
			break // where it did not get ready, the rest shows why
		}
	}
	if err := r.Stop(ctx, id, time.Millisecond); err != nil {
		return err
	}
	return r.Remove(ctx, id)
}

// stepper calls at before every step, with its number from 0.
type stepper struct {
	mu    sync.Mutex
	steps []string
	at    func(n int)
}

// Enabled, WithAttrs and WithGroup make it a slog.Handler.
func (s *stepper) Enabled(context.Context, slog.Level) bool { return true }
func (s *stepper) WithAttrs([]slog.Attr) slog.Handler       { return s }
func (s *stepper) WithGroup(string) slog.Handler            { return s }

// Handle takes a record of the runtime.
func (s *stepper) Handle(_ context.Context, rec slog.Record) error {
	if rec.Message != "step" {
		return nil
	}
	attrs := map[string]string{}
	rec.Attrs(func(a slog.Attr) bool { attrs[a.Key] = a.Value.String(); return true })
	s.mu.Lock()
	defer s.mu.Unlock()
	s.steps = append(s.steps, attrs["op"]+": "+attrs["step"])
	if s.at != nil {
		s.at(len(s.steps) - 1)
	}
	return nil
}

func (s *stepper) seen() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.steps)
}

// liveUntil is the supervisor that kills itself.
func liveUntil(args []string) error {
	point, err := strconv.Atoi(args[5])
	if err != nil {
		return err
	}
	s := &stepper{at: func(n int) {
		if n == point {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // until it is delivered
		}
	}}
	r, err := New(WithAddress(args[0]), WithNamespace(args[1]), WithDataDir(args[2]), WithLogger(slog.New(s)))
	if err != nil {
		return err
	}
	return live(context.Background(), r, args[3], bunfile.Network(args[4]))
}

// The table above is what happens, on either network. Were a step added, or
// taken away, the walk would not be one over every step any more.
func TestStepsOfALife(t *testing.T) {
	d := daemon(t)
	for i, network := range []bunfile.Network{bunfile.NetworkBridge, bunfile.NetworkBridge, bunfile.NetworkHost} {
		if i > 0 {
			pretendFirewalld(t)
		}
		s := &stepper{}
		r := open(t, d, t.TempDir(), WithLogger(slog.New(s)))
		if err := errors.Join(live(t.Context(), r, runtimetest.NewID(), network), r.Close()); err != nil {
			t.Fatal(err)
		}
		if seen := s.seen(); !slices.Equal(seen, lifeOn(network)) {
			t.Errorf("on %s the steps are\n%s\nwant\n%s", network, strings.Join(seen, "\n"), strings.Join(lifeOn(network), "\n"))
		}
	}
	empty(t, d)
}

// ways are the first acts of a next supervisor, as takeOver knows them.
var ways = []string{"adopt", "start", "create"}

// Case R5: a supervisor is killed at every step of a container's life. Whatever
// its successor begins with, nothing is left.
func TestCaseR5EveryKillPoint(t *testing.T) {
	containerdtest.Need(t)
	pretendFirewalld(t) // for all steps
	containerdtest.EachVersion(t, func(t *testing.T, v containerdtest.Version) {
		d := private(t, v)
		// Each step on both containerds, with another way each; on the second network on
		// one of them.
		other := 0
		if v == containerdtest.Latest {
			other = 1
		}
		for i, network := range []bunfile.Network{bunfile.NetworkBridge, bunfile.NetworkHost} {
			for n, step := range lifeOn(network) {
				if t.Failed() {
					return // what is left behind would be found again and again
				}
				if i == 1 && (n%2 != other || !slices.Contains([]string{"start", "stop", "end"}, strings.SplitN(step, ":", 2)[0])) {
					continue // the others are the same as on the bridge
				}
				killSupervisorAt(t, d, network, n, (n+other)%len(ways))
			}
		}
	})
}

// killAtPoint has a supervisor lead a container through its life until it kills itself
// at a point of it.
func killAtPoint(t *testing.T, d *containerdtest.Daemon, dir, id string, network bunfile.Network, point int) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", supervisorSwitch, "live", d.Address, d.Namespace, dir, id, string(network), strconv.Itoa(point))
	cmd.Stderr = os.Stderr
	var exit *exec.ExitError
	if err := cmd.Run(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the supervisor ended by itself: %v", err)
	}
}

func killSupervisorAt(t *testing.T, d *containerdtest.Daemon, network bunfile.Network, n, way int) {
	t.Run(fmt.Sprintf("%s, %s, then %s", network, lifeOn(network)[n], ways[way]), func(t *testing.T) {
		dir, id := t.TempDir(), runtimetest.NewID()
		killAtPoint(t, d, dir, id, network, n)
		next := open(t, d, dir)
		takeOver(t, next, id, way)
		if err := next.Close(); err != nil {
			t.Error(err)
		}
		emptyDir(t, dir)
		empty(t, d)
	})
}

// Case R5: containerd is killed at every step of a container's life, and comes
// back either at once or after the call that noticed. The call succeeds, or
// fails with words that help; nothing hangs, and nothing is left.
func TestCaseR5EveryKillPointOfContainerd(t *testing.T) {
	containerdtest.Need(t)
	pretendFirewalld(t) // for all steps
	containerdtest.EachVersion(t, func(t *testing.T, v containerdtest.Version) {
		d := private(t, v)
		for n := range life {
			if t.Failed() {
				return // what is left behind would be found again and again
			}
			// Where one version is back at once, the other is not.
			killContainerdAt(t, d, n, n%2 == 0 == (v == containerdtest.Latest))
		}
	})
}

func killContainerdAt(t *testing.T, d *containerdtest.Daemon, n int, atOnce bool) {
	name := "back at once"
	if !atOnce {
		name = "back after the call"
	}
	t.Run(life[n]+", "+name, func(t *testing.T) {
		dead, startErr := false, error(nil)
		s := &stepper{}
		s.at = func(i int) {
			if i != n {
				return
			}
			d.Kill()
			if dead = !atOnce; atOnce {
				startErr = d.Start()
			}
		}
		dir, id := t.TempDir(), runtimetest.NewID()
		r := open(t, d, dir, WithLogger(slog.New(s)))
		if !atOnce {
			r.endPatience = 2 * time.Second // so long is an end waited for that nobody reports
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		err := live(ctx, r, id, bunfile.NetworkBridge)
		t.Logf("%s, %s: %v", life[n], name, err)
		wantHelpful(t, err)
		if ctx.Err() != nil {
			t.Error("it hung")
		}
		if seen := s.seen(); len(seen) <= n || seen[n] != life[n] {
			t.Errorf("it broke off before: %q", seen)
		}
		s.mu.Lock()
		if dead {
			startErr = d.Start()
		}
		s.mu.Unlock()
		if startErr != nil {
			t.Fatal(startErr)
		}
		// The same program goes on, or another one takes over.
		next := r
		if n%4 < 2 {
			if err := r.Close(); err != nil {
				t.Error(err)
			}
			next = open(t, d, dir)
		}
		takeOver(t, next, id, n%len(ways))
		if err := next.Close(); err != nil {
			t.Error(err)
		}
		emptyDir(t, dir)
		empty(t, d)
	})
}

// wantHelpful fails the test for an error that does not say what to do about
// containerd.
func wantHelpful(t *testing.T, err error) {
	t.Helper()
	if err == nil {
		return
	}
	for _, help := range []string{"systemctl start containerd", "systemctl restart containerd", "try again", "create it again"} {
		if strings.Contains(err.Error(), help) {
			return
		}
	}
	t.Errorf("the error does not say what to do: %v", err)
}

// Case R5: containerd is killed at random moments under a churn of containers,
// and comes back. Calls fail with words that help or succeed, and in the end
// nothing is left.
func TestCaseR5KilledContainerd(t *testing.T) {
	containerdtest.Need(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	containerdtest.EachVersion(t, func(t *testing.T, v containerdtest.Version) {
		random := rand.New(rand.NewPCG(seed, 0))
		d := private(t, v)
		dir := t.TempDir()
		r := open(t, d, dir)
		ids := []string{runtimetest.NewID(), runtimetest.NewID(), runtimetest.NewID()}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
		defer cancel()
		over := make(chan struct{})
		var wg sync.WaitGroup
		for i, id := range ids {
			wg.Go(func() {
				for alive := true; alive && ctx.Err() == nil; {
					err := churn(ctx, r, id, i)
					wantHelpful(t, err)
					for err != nil && ctx.Err() == nil {
						// As a supervisor would, again and again.
						err = errors.Join(absent(r.Stop(ctx, id, 0)), absent(r.Remove(ctx, id)))
						pause(ctx, reconnectEvery)
					}
					select {
					case <-over:
						alive = false
					default:
					}
				}
			})
		}
		for range 8 {
			pause(ctx, time.Duration(random.IntN(600_000))*time.Microsecond)
			d.Kill()
			pause(ctx, time.Duration(random.IntN(300_000))*time.Microsecond)
			if err := d.Start(); err != nil {
				t.Fatal(err)
			}
		}
		close(over)
		wg.Wait()
		if ctx.Err() != nil {
			t.Error("it hung")
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		emptyDir(t, dir)
		empty(t, d)
	})
}

func absent(err error) error {
	if errors.Is(err, runtime.ErrNotFound) {
		return nil
	}
	return err
}

// A containerd that hangs is noticed; what waited for it goes on when it goes
// on.
func TestHangingContainerd(t *testing.T) {
	containerdtest.Need(t)
	d := private(t, "")
	r := open(t, d, t.TempDir())
	defer r.Close()
	id, _ := launch(t, r, spec(programImage, program("sleep")...))
	r.answerPatience = 200 * time.Millisecond
	if err := d.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	err := r.Stop(t.Context(), id, 0)
	if err == nil || !strings.Contains(err.Error(), "does not answer") || !strings.Contains(err.Error(), "systemctl restart containerd") {
		t.Errorf("Stop: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := r.Stop(ctx, id, 0); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Stop within 10 ms: %v", err)
	}
	if err := d.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	r.answerPatience = time.Minute
	if err := errors.Join(r.Stop(t.Context(), id, 0), r.Remove(t.Context(), id)); err != nil {
		t.Error(err)
	}
	empty(t, d)
}

// What the other tests look for would be found if it were there.
func TestLeftoversAreNoticed(t *testing.T) {
	containerdtest.Need(t)
	pretendFirewalld(t) // for rules of its own
	containerdtest.EachVersion(t, func(t *testing.T, v containerdtest.Version) {
		d := private(t, v)
		r := open(t, d, t.TempDir())
		defer r.Close()
		what := spec(programImage, program("sleep")...)
		what.Network = bunfile.NetworkBridge
		id, _ := launch(t, r, what)
		left, err := d.Present()
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"container " + id, "snapshot " + id, "mount overlay", "/run/budgie/netns/" + id, "/run/budgie/cni/budgie/10.",
			"/run/budgie/cni/results/", "io.containerd.runtime.v2.task/" + d.Namespace + "/" + id, "/cgroup.procs", "firewall rule", "shim "} {
			if !slices.ContainsFunc(left, func(s string) bool { return strings.Contains(s, want) }) {
				t.Errorf("there is no %q in %q", want, left)
			}
		}
		if err := errors.Join(r.Stop(t.Context(), id, 0), r.Remove(t.Context(), id)); err != nil {
			t.Fatal(err)
		}
		empty(t, d)
	})
}

// private starts a daemon for one test.
func private(t *testing.T, v containerdtest.Version) *containerdtest.Daemon {
	t.Helper()
	// The name of a test is too long for the path of a socket.
	dir, err := os.MkdirTemp("", "containerd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	d, err := containerdtest.StartVersion(v, dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Kill() })
	if err := importImages(d, dir); err != nil {
		t.Fatal(err)
	}
	return d
}

func emptyDir(t *testing.T, dir string) {
	t.Helper()
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("in the data directory is left %v, %v", left, err)
	}
}
