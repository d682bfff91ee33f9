package logfile

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/budgiehq/budgie/runtime"
	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fataler is what testing and rapid have in common.
type fataler interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

func newWriter(t fataler, dir string, limit Limit) *Writer {
	t.Helper()
	w, err := OpenWriter(dir, limit)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func write(t fataler, w *Writer, stream runtime.LogStream, data string) {
	t.Helper()
	if err := w.Write(stream, time.Now(), []byte(data)); err != nil {
		t.Fatal(err)
	}
}

func read(t fataler, dir string, opts Options) []string {
	t.Helper()
	var out []string
	for e, err := range Read(context.Background(), dir, opts) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, string(e.Stream)+" "+e.Line)
	}
	return out
}

// model is what a log should hold: the entries in the order in which their last
// piece was written.
type model struct {
	entries []string
	open    map[runtime.LogStream]string
	// order of the open lines by their beginning
	order []runtime.LogStream
}

func (m *model) write(stream runtime.LogStream, data string) {
	for data != "" {
		line, rest, ended := strings.Cut(data, "\n")
		if _, ok := m.open[stream]; !ok && !ended {
			m.order = append(m.order, stream)
		}
		data = rest
		if !ended {
			m.open[stream] += line
			return
		}
		m.entries = append(m.entries, string(stream)+" "+m.open[stream]+line)
		delete(m.open, stream)
		m.order = slices.DeleteFunc(m.order, func(s runtime.LogStream) bool { return s == stream })
	}
}

func (m *model) all() []string {
	out := slices.Clone(m.entries)
	for _, s := range m.order {
		out = append(out, string(s)+" "+m.open[s])
	}
	return out
}

// TestReadsWhatWasWritten compares reading, tailing and following with a model
// over random writes, rotations and changes of writer.
func TestReadsWhatWasWritten(t *testing.T) {
	base := t.TempDir()
	n := 0
	rapid.Check(t, func(t *rapid.T) {
		n++
		dir := filepath.Join(base, fmt.Sprint(n))
		limit := Limit{
			Bytes: rapid.Int64Range(300, 4000).Draw(t, "bytes"),
			Files: 1 << 20, // all are kept, so that the model knows what there is
		}
		w := newWriter(t, dir, limit)
		defer func() { w.Close() }()
		follow := followAll(dir)
		m := &model{open: map[runtime.LogStream]string{}}
		streams := rapid.SampledFrom([]runtime.LogStream{runtime.Stdout, runtime.Stderr})
		text := rapid.StringOfN(rapid.SampledFrom([]rune("ab \n\nP\x00é")), 0, 40, -1)
		for range rapid.IntRange(0, 30).Draw(t, "writes") {
			stream, data := streams.Draw(t, "stream"), text.Draw(t, "data")
			if rapid.IntRange(0, 20).Draw(t, "long") == 0 {
				data += strings.Repeat("long", 5_000)
			}
			write(t, w, stream, data)
			m.write(stream, data)
			if rapid.IntRange(0, 5).Draw(t, "reopen") == 0 {
				w.Close()
				var err error
				if w, err = ResumeWriter(dir, limit); err != nil {
					t.Fatal(err)
				}
			}
		}
		want := m.all()
		if got := read(t, dir, Options{}); !slices.Equal(got, want) {
			t.Fatalf("read %s", diff(got, want))
		}
		tail := rapid.IntRange(1, 40).Draw(t, "tail")
		if got := read(t, dir, Options{Tail: tail}); !slices.Equal(got, want[max(0, len(want)-tail):]) {
			t.Fatalf("tail %d is %s", tail, diff(got, want[max(0, len(want)-tail):]))
		}
		if err := w.Finish(time.Now()); err != nil {
			t.Fatal(err)
		}
		if got := follow(); !slices.Equal(got, want) {
			t.Fatalf("followed %s", diff(got, want))
		}
		if got := read(t, dir, Options{}); !slices.Equal(got, want) {
			t.Fatalf("after the end read %s", diff(got, want))
		}
	})
}

// diff shows where two lists begin to differ.
func diff(got, want []string) string {
	i := 0
	for i < min(len(got), len(want)) && got[i] == want[i] {
		i++
	}
	at := func(l []string) string {
		if i < len(l) {
			return fmt.Sprintf("%.80q (%d bytes)", l[i], len(l[i]))
		}
		return "the end"
	}
	return fmt.Sprintf("%d entries, want %d; at %d there is %s, want %s", len(got), len(want), i, at(got), at(want))
}

// followAll follows a log from now on. The function it returns ends the log
// and returns what was read.
func followAll(dir string) func() []string {
	ended := make(chan struct{})
	result := make(chan []string)
	go func() {
		var out []string
		for e, err := range Read(context.Background(), dir, Options{Follow: true, Ended: ended}) {
			if err != nil {
				out = append(out, err.Error())
				break
			}
			out = append(out, string(e.Stream)+" "+e.Line)
		}
		result <- out
	}()
	return func() []string {
		close(ended)
		return <-result
	}
}

// TestWindow: a log stays within its bounds, and what it keeps is its end.
func TestWindow(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "log")
		if err != nil {
			rt.Fatal(err)
		}
		limit := Limit{Bytes: rapid.Int64Range(200, 2000).Draw(rt, "bytes"), Files: rapid.IntRange(1, 4).Draw(rt, "files")}
		w := newWriter(rt, dir, limit)
		defer w.Close()
		var want []string
		for i := range rapid.IntRange(1, 120).Draw(rt, "lines") {
			line := fmt.Sprintf("%d %s", i, strings.Repeat("x", i%50))
			write(rt, w, runtime.Stdout, line+"\n")
			want = append(want, "stdout "+line)
		}
		got := read(rt, dir, Options{})
		if len(got) == 0 || !slices.Equal(got, want[len(want)-len(got):]) {
			rt.Fatalf("kept %q, which is not the end of %q", got, want)
		}
		all, err := segments(dir)
		if err != nil || len(all) > limit.Files {
			rt.Fatalf("%d segments, %v, want at most %d", len(all), err, limit.Files)
		}
		for _, seq := range all {
			if info, err := os.Stat(segmentPath(dir, seq)); err != nil || info.Size() > limit.Bytes {
				rt.Fatalf("a segment of %d bytes, %v, want at most %d", info.Size(), err, limit.Bytes)
			}
		}
		// What the limit allows is used: only the oldest segment was given up.
		if len(got) < len(want) && len(all) != limit.Files {
			rt.Fatalf("lines were given up with %d of %d segments", len(all), limit.Files)
		}
	})
}

// TestFollowAcrossRotation has a reader follow a writer that rotates all the
// time, in small segments all of which are kept long enough.
func TestFollowAcrossRotation(t *testing.T) {
	dir := t.TempDir()
	w := newWriter(t, dir, Limit{Bytes: 300, Files: 100_000})
	defer w.Close()
	follow := followAll(dir)
	var want []string
	for i := range 1500 {
		write(t, w, runtime.Stderr, fmt.Sprintln(i))
		want = append(want, fmt.Sprint("stderr ", i))
	}
	if got := follow(); !slices.Equal(got, want) {
		t.Fatalf("followed %d lines of %d", len(got), len(want))
	}
}

// TestFollowOverrun: a reader that is slower than the rotation loses lines, says
// so, and goes on in order with what is there; the line that was under way is not
// joined to another one.
func TestFollowOverrun(t *testing.T) {
	dir := t.TempDir()
	w := newWriter(t, dir, Limit{Bytes: 300, Files: 2})
	defer w.Close()
	write(t, w, runtime.Stdout, "0\n1")
	ended := make(chan struct{})
	last, count, notes := -1, 0, 0
	for e, err := range Read(t.Context(), dir, Options{Follow: true, Ended: ended}) {
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(e.Line, "budgie: lines are missing here: ") && e.Stream == runtime.Stderr && last == 1 {
			notes++
			continue
		}
		var i int
		if _, err := fmt.Sscan(e.Line, &i); err != nil || i <= last {
			t.Fatalf("%q after %d", e.Line, last)
		}
		last = i
		if count++; count == 1 {
			write(t, w, runtime.Stdout, strings.Repeat(" ", 300)) // of line 1
			for i := range 1000 {
				write(t, w, runtime.Stdout, fmt.Sprintln(i+1))
			}
			close(ended)
		}
	}
	if notes != 1 {
		t.Errorf("%d times it is said that lines are missing", notes)
	}
	if last != 1000 || count > 50 {
		t.Fatalf("read %d lines up to %d", count, last)
	}
}

func TestFollowEndsWithContext(t *testing.T) {
	for _, dir := range []string{t.TempDir(), filepath.Join(t.TempDir(), "not there")} {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		for e, err := range Read(ctx, dir, Options{Follow: true}) {
			t.Fatalf("an empty log yields %v, %v", e, err)
		}
	}
}

func TestTailNoneFollows(t *testing.T) {
	dir := t.TempDir()
	w := newWriter(t, dir, Limit{})
	defer w.Close()
	write(t, w, runtime.Stdout, "before\nhalf")
	if got := read(t, dir, Options{Tail: -1}); len(got) != 0 {
		t.Fatalf("tail of none is %q", got)
	}
	write(t, w, runtime.Stdout, " done\n")
	r := &reader{cursor: cursor{dir: dir}, opts: Options{Tail: -1, Follow: true}}
	defer r.cursor.close()
	if err := r.seek(); err != nil {
		t.Fatal(err)
	}
	write(t, w, runtime.Stdout, "after\n")
	line, ok, err := r.cursor.next()
	if err != nil || !ok || !strings.HasSuffix(string(line), " after") {
		t.Fatalf("goes on with %q, %v, %v", line, ok, err)
	}
}
