package runtimetest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/runtime"
)

// Runtime is budgie.Runtime, spelled out so that runtimes can be tested without
// importing the root package.
type Runtime interface {
	Name() string
	Supports(ctx context.Context, spec bunfile.Spec) error
	Create(ctx context.Context, cfg runtime.Config) error
	Start(ctx context.Context, id string) (runtime.Status, error)
	Adopt(ctx context.Context, id string) (runtime.Status, error)
	Stop(ctx context.Context, id string, grace time.Duration) error
	Remove(ctx context.Context, id string) error
	Status(ctx context.Context, id string) (runtime.Status, error)
	List(ctx context.Context) ([]runtime.Status, error)
	Wait(ctx context.Context, id string) (runtime.Status, error)
	Close() error
}

// Harness is what the suite needs to know of a runtime. Each test gets one of
// its own, with no containers.
type Harness struct {
	// Runtime is under test. The suite closes it.
	Runtime Runtime
	// Reopen opens another runtime on the same data, as the next program does
	// after the first one closed its or died. The suite closes it. Nil where
	// the data cannot outlive the value; that part is then not tested.
	Reopen func(t *testing.T) Runtime
	// Spec returns the specification of a container that runs [Program] with
	// args.
	Spec func(args ...string) bunfile.Spec
	// Command returns the command that runs Program with args inside such a
	// container, for Exec.
	Command func(args ...string) []string
	// Image is an image that Pull can have, of which Spec's containers may be
	// made. One without a name declares that the runtime runs no images.
	Image bunfile.Image
	// WithoutImages declares that the runtime runs images and neither hands them
	// out nor takes them from others.
	WithoutImages bool
	// WithoutLogs and the others declare that the runtime lacks an optional
	// ability. One that is lacking without being declared is a failure.
	WithoutLogs, WithoutExec, WithoutStats, WithoutInspect bool
}

// patience bounds every wait of the suite. It is long because machines that run
// tests are slow at times; nothing waits for it to pass.
const patience = 60 * time.Second

// grace is long enough never to be over where a container obeys.
const grace = 30 * time.Second

// Run tests a runtime against the contract of budgie.Runtime, [runtime.Logger],
// [runtime.Execer], [runtime.Puller], [runtime.ImageSource], [runtime.ImageSink],
// [runtime.Statser] and [runtime.Inspector].
// open is called once per test; what it allocates is to
// be freed by t.Cleanup.
func Run(t *testing.T, open func(t *testing.T) Harness) {
	t.Helper()
	for _, test := range append(lifeTests(), abilityTests()...) {
		t.Run(test.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			t.Cleanup(cancel)
			s := &suite{T: t, Harness: open(t), ctx: ctx}
			t.Cleanup(s.cleanUp)
			test.run(s)
		})
	}
}

// suiteTest is a part of the suite.
type suiteTest struct {
	name string
	run  func(*suite)
}

// lifeTests are those of what every runtime does.
func lifeTests() []suiteTest {
	return []suiteTest{
		{"Name", (*suite).testName},
		{"Create", (*suite).testCreate},
		{"CreateInvalid", (*suite).testCreateInvalid},
		{"CreateKeepsNoMemory", (*suite).testCreateKeepsNoMemory},
		{"Unknown", (*suite).testUnknown},
		{"StartAndServe", (*suite).testStartAndServe},
		{"StartAndEcho", (*suite).testStartAndEcho},
		{"StartOutlivesContext", (*suite).testStartOutlivesContext},
		{"ExitCodes", (*suite).testExitCodes},
		{"StartAnew", (*suite).testStartAnew},
		{"StopGraceful", (*suite).testStopGraceful},
		{"StopKills", (*suite).testStopKills},
		{"StopAtOnce", (*suite).testStopAtOnce},
		{"StopNotRunning", (*suite).testStopNotRunning},
		{"StopConcurrently", (*suite).testStopConcurrently},
		{"StopCancelled", (*suite).testStopCancelled},
		{"Remove", (*suite).testRemove},
		{"List", (*suite).testList},
		{"Wait", (*suite).testWait},
		{"WaitCancelled", (*suite).testWaitCancelled},
		{"Cancelled", (*suite).testCancelled},
		{"Parallel", (*suite).testParallel},
		{"AdoptOwn", (*suite).testAdoptOwn},
		{"AdoptRunning", (*suite).testAdoptRunning},
		{"AdoptEnded", (*suite).testAdoptEnded},
		{"Release", (*suite).testRelease},
		{"Close", (*suite).testClose},
	}
}

// abilityTests are those of the optional abilities.
func abilityTests() []suiteTest {
	return []suiteTest{
		{"Logs", (*suite).testLogs},
		{"LogsUnknown", (*suite).testLogsUnknown},
		{"LogsTail", (*suite).testLogsTail},
		{"LogsFollow", (*suite).testLogsFollow},
		{"LogsFollowCancelled", (*suite).testLogsFollowCancelled},
		{"LogsOfAllRuns", (*suite).testLogsOfAllRuns},
		{"LogsAfterAdopt", (*suite).testLogsAfterAdopt},
		{"Exec", (*suite).testExec},
		{"ExecNotRunning", (*suite).testExecNotRunning},
		{"ExecCancelled", (*suite).testExecCancelled},
		{"ExecDiesWithContainer", (*suite).testExecDiesWithContainer},
		{"ExecOverrides", (*suite).testExecOverrides},
		{"ExecCannotRun", (*suite).testExecCannotRun},
		{"ExecLargeStreams", (*suite).testExecLargeStreams},
		{"ExecTTY", (*suite).testExecTTY},
		{"ExecTTYOutput", (*suite).testExecTTYOutput},
		{"ExecTTYCancelled", (*suite).testExecTTYCancelled},
		{"Stats", (*suite).testStats},
		{"StatsNotRunning", (*suite).testStatsNotRunning},
		{"Inspect", (*suite).testInspect},
		{"Pull", (*suite).testPull},
		{"PullFails", (*suite).testPullFails},
		{"ImageSource", (*suite).testImageSource},
		{"ImageSink", (*suite).testImageSink},
		{"ImageSinkFails", (*suite).testImageSinkFails},
		{"ImageSinkKeepsNames", (*suite).testImageSinkKeepsNames},
	}
}

// suite is one test of the suite.
type suite struct {
	*testing.T
	Harness
	ctx context.Context
	// closed is set when the test itself has closed Runtime.
	closed bool
}

// cleanUp removes all containers.
func (s *suite) cleanUp() {
	if s.closed && s.Reopen != nil {
		s.Runtime, s.closed = s.Reopen(s.T), false
	}
	if s.closed {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	all, err := s.Runtime.List(ctx)
	if err != nil {
		s.Errorf("clean up: %v", err)
	}
	for _, st := range all {
		_, aerr := s.Runtime.Adopt(ctx, st.ID)
		if err := errors.Join(aerr, s.Runtime.Stop(ctx, st.ID, 0), s.Runtime.Remove(ctx, st.ID)); err != nil {
			s.Errorf("clean up: %v", err)
		}
	}
	if err := s.Runtime.Close(); err != nil {
		s.Errorf("Close: %v", err)
	}
}

// reopen closes the runtime and opens the next one on its data.
func (s *suite) reopen() {
	s.Helper()
	if s.Reopen == nil {
		s.Skip("the harness says that the runtime's data does not outlive it")
	}
	if err := s.Runtime.Close(); err != nil {
		s.Fatalf("Close: %v", err)
	}
	s.Runtime = s.Reopen(s.T)
}

// NewID returns a container id that was not there before.
func NewID() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails, see crypto/rand
	return hex.EncodeToString(b)
}

// create makes a container that runs Program with args.
func (s *suite) create(args ...string) string {
	s.Helper()
	return s.createSpec(s.Spec(args...))
}

func (s *suite) createSpec(spec bunfile.Spec) string {
	s.Helper()
	id := NewID()
	if err := s.Runtime.Create(s.ctx, runtime.Config{ID: id, Spec: spec}); err != nil {
		s.Fatalf("Create: %v", err)
	}
	return id
}

// start starts a container and checks what Start returns.
func (s *suite) start(id string) runtime.Status {
	s.Helper()
	before := time.Now()
	st, err := s.Runtime.Start(s.ctx, id)
	if err != nil {
		s.Fatalf("Start: %v", err)
	}
	if st.ID != id || st.State != lifecycle.Running || st.PID <= 0 || st.Exit != nil {
		s.Fatalf("Start returned %+v, want container %s running with a PID and no exit", st, id)
	}
	if st.StartedAt.Before(before.Add(-time.Second)) || st.StartedAt.After(time.Now().Add(time.Second)) {
		s.Fatalf("StartedAt is %v, want about %v", st.StartedAt, before)
	}
	return st
}

// run creates and starts a container.
func (s *suite) run(args ...string) string {
	s.Helper()
	id := s.create(args...)
	s.start(id)
	return id
}

func (s *suite) stop(id string, grace time.Duration) {
	s.Helper()
	if err := s.Runtime.Stop(s.ctx, id, grace); err != nil {
		s.Fatalf("Stop: %v", err)
	}
}

// wait waits for a container's end.
func (s *suite) wait(id string) runtime.Status {
	s.Helper()
	st, err := s.Runtime.Wait(s.ctx, id)
	if err != nil {
		s.Fatalf("Wait: %v", err)
	}
	return st
}

func (s *suite) status(id string) runtime.Status {
	s.Helper()
	st, err := s.Runtime.Status(s.ctx, id)
	if err != nil {
		s.Fatalf("Status: %v", err)
	}
	return st
}

// wantStopped checks a status after an end with one of the codes.
func (s *suite) wantStopped(st runtime.Status, codes ...int) {
	s.Helper()
	if st.State != lifecycle.Stopped || st.PID != 0 || len(st.Addresses) != 0 || st.Exit == nil {
		s.Fatalf("status is %+v, want stopped with an exit and neither PID nor addresses", st)
	}
	if !slices.Contains(codes, st.Exit.Code) {
		s.Fatalf("exit code is %d, want one of %v", st.Exit.Code, codes)
	}
	if st.Exit.At.IsZero() || st.StartedAt.IsZero() || st.Exit.At.Before(st.StartedAt) {
		s.Fatalf("ended at %v, started at %v", st.Exit.At, st.StartedAt)
	}
}

func (s *suite) wantError(what string, err, want error) {
	s.Helper()
	if !errors.Is(err, want) {
		s.Fatalf("%s gives error %v, want %v", what, err, want)
	}
}

// waitFor waits until a container has logged a line, and returns all entries up
// to it.
func (s *suite) waitFor(id, line string) []runtime.LogEntry {
	s.Helper()
	var seen []runtime.LogEntry
	for e, err := range s.logger().Logs(s.ctx, id, runtime.LogOptions{Follow: true}) {
		if err != nil {
			s.Fatalf("Logs: %v", err)
		}
		if seen = append(seen, e); e.Line == line {
			return seen
		}
	}
	s.Fatalf("the log ended without the line %q: %v", line, seen)
	return nil
}

// settled starts a container whose program prints "ready" when its signal
// handling is in place, and waits for that.
func (s *suite) settled(args ...string) string {
	s.Helper()
	id := s.run(args...)
	s.waitFor(id, "ready")
	return id
}

func (s *suite) logger() runtime.Logger {
	s.Helper()
	return ability[runtime.Logger](s, s.WithoutLogs, "WithoutLogs")
}

func (s *suite) execer() runtime.Execer {
	s.Helper()
	return ability[runtime.Execer](s, s.WithoutExec, "WithoutExec")
}

// ability returns the runtime as something that it need not be.
func ability[T any](s *suite, without bool, field string) T {
	s.Helper()
	if without {
		s.Skipf("the harness says %s", field)
	}
	able, ok := s.Runtime.(T)
	if !ok {
		s.Fatalf("%T is no %v; set %s if that is meant", s.Runtime, reflect.TypeFor[T](), field)
	}
	return able
}

// inParallel calls f n times at once and reports the errors.
func (s *suite) inParallel(n int, f func(i int) error) {
	s.Helper()
	errs := make(chan error, n)
	for i := range n {
		go func() {
			if err := f(i); err != nil {
				errs <- fmt.Errorf("call %d: %w", i, err)
				return
			}
			errs <- nil
		}()
	}
	for range n {
		if err := <-errs; err != nil {
			s.Error(err)
		}
	}
	if s.Failed() {
		s.FailNow()
	}
}
