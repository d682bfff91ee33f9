package logfile

import (
	"errors"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/budgiehq/budgie/runtime"
	"pgregory.net/rapid"
)

// TestTornRecord cuts the file at every place, as a writer's death in the midst
// of a write does: the next writer goes on after the last whole record.
func TestTornRecord(t *testing.T) {
	dir := t.TempDir()
	w := newWriter(t, dir, Limit{})
	write(t, w, runtime.Stdout, "one\ntwo\nthree\n")
	w.Close()
	whole, err := os.ReadFile(segmentPath(dir, 1))
	if err != nil {
		t.Fatal(err)
	}
	for cut := range len(whole) + 1 {
		if err := os.WriteFile(segmentPath(dir, 1), whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		kept := strings.Count(string(whole[:cut]), "\n")
		want := []string{"stdout one", "stdout two", "stdout three"}[:kept]
		if got := read(t, dir, Options{}); !slices.Equal(got, want) {
			t.Fatalf("cut at %d, read %q, want %q", cut, got, want)
		}
		w := newWriter(t, dir, Limit{})
		write(t, w, runtime.Stdout, "next\n")
		w.Close()
		if got := read(t, dir, Options{}); !slices.Equal(got, append(want, "stdout next")) {
			t.Fatalf("cut at %d and written on, read %q", cut, got)
		}
	}
}

// TestDamagedBytes overwrites bytes: reading goes on after the damage.
func TestDamagedBytes(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "log")
		if err != nil {
			rt.Fatal(err)
		}
		w := newWriter(rt, dir, Limit{})
		for range 50 {
			write(rt, w, runtime.Stdout, "line\n")
		}
		w.Close()
		data, err := os.ReadFile(segmentPath(dir, 1))
		if err != nil {
			rt.Fatal(err)
		}
		damage := rapid.SliceOfN(rapid.Byte(), 1, 200).Draw(rt, "damage")
		at := rapid.IntRange(0, len(data)-1).Draw(rt, "at")
		copy(data[at:], damage)
		if err := os.WriteFile(segmentPath(dir, 1), data, 0o600); err != nil {
			rt.Fatal(err)
		}
		w = newWriter(rt, dir, Limit{})
		write(rt, w, runtime.Stdout, "sound\n")
		w.Close()
		got := read(rt, dir, Options{})
		if len(got) == 0 || !strings.HasSuffix(got[len(got)-1], "sound") {
			rt.Fatalf("read %q", got)
		}
		if sound := strings.Count(strings.Join(got, "\n"), "stdout line"); sound < 50-8 {
			rt.Fatalf("%d bytes of damage cost %d lines", len(damage), 50-sound)
		}
	})
}

func TestHugeDamage(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(segmentPath(dir, 1), []byte(strings.Repeat("x", 5<<20)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	w := newWriter(t, dir, Limit{})
	write(t, w, runtime.Stdout, "sound\n")
	w.Close()
	if got := read(t, dir, Options{}); !slices.Equal(got, []string{"stdout sound"}) {
		t.Fatalf("read %.200q", got)
	}
}

// TestFullDisk: what does not fit is reported and lost, and nothing else.
func TestFullDisk(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skipf("this system has no /dev/full to stand for a full disk: %v", err)
	}
	dir := t.TempDir()
	w := newWriter(t, dir, Limit{})
	defer w.Close()
	write(t, w, runtime.Stdout, "before\n")
	sound := w.f
	w.f = full
	if err := w.Write(runtime.Stdout, time.Now(), []byte("lost\n")); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("a full disk gives %v", err)
	}
	full.Close()
	w.f = sound
	write(t, w, runtime.Stdout, "after\n")
	if got := read(t, dir, Options{}); !slices.Equal(got, []string{"stdout before", "stderr budgie: 1 line dropped: disk full", "stdout after"}) {
		t.Fatalf("read %q", got)
	}
}

func TestClosedWriter(t *testing.T) {
	w := newWriter(t, t.TempDir(), Limit{})
	if err := errors.Join(w.Close(), w.Close()); err != nil {
		t.Fatal(err)
	}
	if err := w.Write(runtime.Stdout, time.Now(), []byte("x")); !errors.Is(err, os.ErrClosed) {
		t.Fatalf("Write after Close gives %v", err)
	}
	if err := w.Finish(time.Now()); !errors.Is(err, os.ErrClosed) {
		t.Fatalf("Finish after Close gives %v", err)
	}
}
