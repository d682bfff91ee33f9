package budgie_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/budgiehq/budgie"
	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/runtime"
	"github.com/budgiehq/budgie/runtime/runtimetest"
)

// plain is a runtime without optional abilities.
type plain struct{ budgie.Runtime }

// job returns a container that runs until it is stopped.
func job(name string) bunfile.Spec {
	return bunfile.Spec{Version: bunfile.Version, Name: name, Image: bunfile.Image{DockerImage: "example/job"}}
}

// second returns another client on the same store and network, and closes it
// after the test.
func (f *fakes) second(t *testing.T, rts ...budgie.Runtime) *budgie.Client {
	t.Helper()
	opts := []budgie.Option{budgie.WithDataDir(t.TempDir()), budgie.WithStore(f.store), budgie.WithDiscoverer(f.node)}
	for _, rt := range rts {
		opts = append(opts, budgie.WithRuntime(rt))
	}
	c, err := budgie.New(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func mustRun(t *testing.T, c *budgie.Client, spec bunfile.Spec) lifecycle.Container {
	t.Helper()
	rec, err := c.Run(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

// TestExec: by name and by part of the id, with all that goes in and comes out.
func TestExec(t *testing.T) {
	f := newFakes(t)
	rec := mustRun(t, f.Client, job("job"))
	for _, ref := range []string{"job", rec.ID, rec.ID[:10]} {
		var out bytes.Buffer
		code, err := f.Exec(t.Context(), ref, runtime.ExecConfig{
			Command: runtimetest.FakeCommand("cat"), Stdin: strings.NewReader("through"), Stdout: &out,
		})
		if code != 0 || err != nil || out.String() != "through" {
			t.Errorf("%s: %d, %v, %q", ref, code, err, &out)
		}
	}
	if code, err := f.Exec(t.Context(), "job", runtime.ExecConfig{Command: runtimetest.FakeCommand("exit", "42")}); code != 42 || err != nil {
		t.Errorf("exit code %d, %v", code, err)
	}
	// Another client sees the same container.
	if code, err := f.second(t, f.runtime).Exec(t.Context(), "job", runtime.ExecConfig{Command: runtimetest.FakeCommand("exit", "43")}); code != 43 || err != nil {
		t.Errorf("exit code %d, %v", code, err)
	}
}

func TestExecErrors(t *testing.T) {
	f := newFakes(t)
	mustRun(t, f.Client, job("job"))
	mustRun(t, f.Client, job("over"))
	if err := f.Stop(t.Context(), "over"); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		ref, command string
		want         error
		text         string
	}{
		{"nosuch", "ls", budgie.ErrNotFound, `"nosuch"`},
		{"over", "ls", runtime.ErrNotRunning, "container over"},
		{"job", "no-such-command", runtime.ErrCommand, `"no-such-command"`},
	} {
		_, err := f.Exec(t.Context(), test.ref, runtime.ExecConfig{Command: []string{test.command}})
		if !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.text) {
			t.Errorf("%s: %v, want %v with %s", test.ref, err, test.want, test.text)
		}
	}
	other := runtimetest.NewFake(runtimetest.WithName("other"))
	defer other.Shutdown()
	if code, err := f.second(t, other, f.runtime).Exec(t.Context(), "job", runtime.ExecConfig{Command: []string{"ls"}}); code != 0 || err != nil {
		t.Errorf("with another runtime before its own: %d, %v", code, err)
	}
	if _, err := f.second(t, other).Exec(t.Context(), "job", runtime.ExecConfig{Command: []string{"ls"}}); !errors.Is(err, budgie.ErrNoRuntime) {
		t.Errorf("without its runtime: %v", err)
	}
}

// TestAbilitiesMissing: a runtime need not be able to do everything.
func TestAbilitiesMissing(t *testing.T) {
	f := newFakes(t)
	mustRun(t, f.Client, job("job"))
	c := f.second(t, plain{f.runtime})
	if _, err := c.Exec(t.Context(), "job", runtime.ExecConfig{Command: []string{"ls"}}); !errors.Is(err, budgie.ErrUnsupported) || !strings.Contains(err.Error(), "fake") {
		t.Errorf("Exec gives %v", err)
	}
	if _, err := c.Stats(t.Context(), "job"); !errors.Is(err, budgie.ErrUnsupported) {
		t.Errorf("Stats gives %v", err)
	}
	if in, err := c.Inspect(t.Context(), "job"); err != nil || in.Name != "job" || in.Detail != nil {
		t.Errorf("Inspect gives %+v, %v", in, err)
	}
}

// TestExecEnds: a command ends with its context, its container and its client.
func TestExecEnds(t *testing.T) {
	f := newFakes(t)
	mustRun(t, f.Client, job("job"))
	type result struct {
		code int
		err  error
	}
	begin := func(c *budgie.Client, ctx context.Context) <-chan result {
		r, w := io.Pipe()
		done := make(chan result, 1)
		go func() {
			code, err := c.Exec(ctx, "job", runtime.ExecConfig{Command: runtimetest.FakeCommand("stubborn"), Stdout: w})
			done <- result{code, err}
		}()
		if _, err := io.ReadFull(r, make([]byte, len("ready\n"))); err != nil {
			t.Fatal(err)
		}
		return done
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	by := begin(f.Client, ctx)
	cancel()
	if r := <-by; !errors.Is(r.err, context.Canceled) {
		t.Errorf("with its context it ends with %+v", r)
	}
	other := f.second(t, f.runtime)
	by = begin(other, t.Context())
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	if r := <-by; !errors.Is(r.err, budgie.ErrClosed) {
		t.Errorf("with its client it ends with %+v", r)
	}
	by = begin(f.Client, t.Context())
	if err := f.Stop(t.Context(), "job"); err != nil {
		t.Fatal(err)
	}
	if r := <-by; r.code != 137 || r.err != nil {
		t.Errorf("with its container it ends with %+v", r)
	}
}

func TestStats(t *testing.T) {
	f := newFakes(t)
	mustRun(t, f.Client, job("job"))
	before, err := f.Stats(t.Context(), "job")
	if err != nil || before.Processes != 1 {
		t.Fatalf("%+v, %v", before, err)
	}
	if _, err := f.Exec(t.Context(), "job", runtime.ExecConfig{Command: runtimetest.FakeCommand("burn")}); err != nil {
		t.Fatal(err)
	}
	after, err := f.Stats(t.Context(), "job")
	if err != nil || after.CPUTime-before.CPUTime != 200*time.Millisecond {
		t.Errorf("%+v, %v, and before %+v", after, err, before)
	}
	if err := f.Stop(t.Context(), "job"); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Stats(t.Context(), "job"); !errors.Is(err, runtime.ErrNotRunning) {
		t.Errorf("of a stopped container: %v", err)
	}
	if _, err := f.Stats(t.Context(), "nosuch"); !errors.Is(err, budgie.ErrNotFound) {
		t.Errorf("of none: %v", err)
	}
}

// TestInspect: the record and the runtime's detail are one object, and neither
// is missing for want of the other.
func TestInspect(t *testing.T) {
	broken := false
	f := newFakes(t, runtimetest.WithFault(func(op, _ string) error {
		if op == "inspect" && broken {
			return io.ErrUnexpectedEOF
		}
		return nil
	}))
	spec := job("job")
	spec.Environment = []string{"SECRET=shown"}
	rec := mustRun(t, f.Client, spec)
	in, err := f.Inspect(t.Context(), rec.ID[:12])
	if err != nil {
		t.Fatal(err)
	}
	if d, ok := in.Detail.(runtimetest.FakeDetails); in.ID != rec.ID || !in.Supervised || !ok {
		t.Errorf("%+v with %+v", in, d)
	}
	data, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"id":"` + rec.ID, `"state":"running"`, `"SECRET=shown"`, `"supervised":true`, `"detail":{"command":`} {
		if !bytes.Contains(data, []byte(want)) {
			t.Errorf("%s is not in %s", want, data)
		}
	}
	broken = true
	if in, err := f.Inspect(t.Context(), "job"); !errors.Is(err, io.ErrUnexpectedEOF) || in.ID != rec.ID {
		t.Errorf("of a runtime that fails: %+v, %v", in, err)
	}
	if _, err := f.Inspect(t.Context(), "nosuch"); !errors.Is(err, budgie.ErrNotFound) {
		t.Errorf("of none: %v", err)
	}
}
