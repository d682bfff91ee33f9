//go:build linux

package containerd

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/runtime"
	"github.com/budgiehq/budgie/runtime/runtimetest"
)

// bench is a runtime for one test, after which nothing may be left.
type bench struct {
	*testing.T
	*Runtime
	dir string
	ctx context.Context
}

func newBench(t *testing.T, opts ...Option) *bench {
	t.Helper()
	d := daemon(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	b := &bench{T: t, dir: t.TempDir(), ctx: ctx}
	b.Runtime = open(t, d, b.dir, opts...)
	t.Cleanup(func() {
		cancel()
		// Also what ran out of time must leave nothing to the tests after it.
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		all, err := b.List(ctx)
		for _, st := range all {
			err = errors.Join(err, b.Stop(ctx, st.ID, 0), b.Remove(ctx, st.ID))
		}
		if err := errors.Join(err, b.Runtime.Close()); err != nil {
			t.Errorf("clean up: %v", err)
		}
		empty(t, d)
	})
	return b
}

// launch starts a container on a runtime that is no bench's.
func launch(t *testing.T, r *Runtime, s bunfile.Spec) (string, runtime.Status) {
	t.Helper()
	id := runtimetest.NewID()
	if err := r.Create(t.Context(), runtime.Config{ID: id, Spec: s}); err != nil {
		t.Fatal(err)
	}
	st, err := r.Start(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return id, st
}

// shell is a container of busybox.
func shell(script string) bunfile.Spec { return spec(busyboxImage, "sh", "-c", script) }

func (b *bench) create(s bunfile.Spec) string {
	b.Helper()
	id := runtimetest.NewID()
	if err := b.Create(b.ctx, runtime.Config{ID: id, Spec: s}); err != nil {
		b.Fatalf("Create: %v", err)
	}
	return id
}

func (b *bench) run(s bunfile.Spec) (string, runtime.Status) {
	b.Helper()
	id := b.create(s)
	st, err := b.Start(b.ctx, id)
	if err != nil {
		b.Fatalf("Start: %v", err)
	}
	return id, st
}

// end runs a container to its end, removes it, and returns its exit and output.
func (b *bench) end(s bunfile.Spec) (lifecycle.Exit, string) {
	b.Helper()
	id, _ := b.run(s)
	st, err := b.Wait(b.ctx, id)
	if err != nil || st.Exit == nil {
		b.Fatalf("Wait: %+v, %v", st, err)
	}
	out := b.output(id)
	if err := b.Remove(b.ctx, id); err != nil {
		b.Fatalf("Remove: %v", err)
	}
	return *st.Exit, out
}

func (b *bench) output(id string) string {
	b.Helper()
	var out strings.Builder
	for e, err := range b.Logs(b.ctx, id, runtime.LogOptions{}) {
		if err != nil {
			b.Fatalf("Logs: %v", err)
		}
		out.WriteString(e.Line + "\n")
	}
	return out.String()
}

// waitFor waits until a container has printed a line.
func (b *bench) waitFor(id, line string) {
	b.Helper()
	for e, err := range b.Logs(b.ctx, id, runtime.LogOptions{Follow: true}) {
		if err != nil {
			b.Fatalf("Logs: %v", err)
		}
		if e.Line == line {
			return
		}
	}
	b.Fatalf("the log ended without %q", line)
}

func (b *bench) sh(id, script string) string {
	b.Helper()
	var out bytes.Buffer
	code, err := b.Exec(b.ctx, id, runtime.ExecConfig{Command: []string{"sh", "-c", script}, Stdout: &out, Stderr: &out})
	if err != nil || code != 0 {
		b.Fatalf("exec %q: %d, %v: %s", script, code, err, &out)
	}
	return out.String()
}

// refused checks that Create fails with all of these texts, and leaves nothing.
func (b *bench) refused(s bunfile.Spec, texts ...string) error {
	b.Helper()
	err := b.Create(b.ctx, runtime.Config{ID: runtimetest.NewID(), Spec: s})
	if err == nil {
		b.Fatalf("Create accepts it; want an error with %q", texts)
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			b.Errorf("the error is %q; want %q in it", err, text)
		}
	}
	empty(b.T, daemon(b.T))
	return err
}
