package logfile

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/budgiehq/budgie/runtime"
	"pgregory.net/rapid"
)

// TestTailOfFastWriter: while tiny segments come and go, the tail is complete
// and in one piece, whenever it is asked for.
func TestTailOfFastWriter(t *testing.T) {
	dir := t.TempDir()
	w := newWriter(t, dir, Limit{Bytes: 2000, Files: 6})
	defer w.Close()
	n := 0
	more := func() {
		for range 7 {
			write(t, w, runtime.Stdout, fmt.Sprintln(n))
			n++
		}
	}
	for n < 500 {
		more()
	}
	ctx, stop := context.WithCancel(t.Context())
	var writing sync.WaitGroup
	writing.Go(func() {
		for ctx.Err() == nil {
			more()
		}
	})
	defer writing.Wait()
	defer stop()
	for round := range 150 {
		tail := 1 + round%60
		follow := round%2 == 1
		var got []int
		last := -1
		for e, err := range Read(t.Context(), dir, Options{Tail: tail, Follow: follow}) {
			var i int
			if _, serr := fmt.Sscan(e.Line, &i); err != nil || serr != nil {
				t.Fatalf("%q: %v, %v", e.Line, err, serr)
			}
			if last >= 0 && i != last+1 {
				t.Fatalf("tail of %d, follow %v: %d after %d", tail, follow, i, last)
			}
			last = i
			if got = append(got, i); follow && len(got) == tail {
				break
			}
		}
		if len(got) != tail {
			t.Fatalf("tail of %d, follow %v: %v", tail, follow, got)
		}
	}
}

// TestTailReadsTheEndOnly: what is long before the tail is not read. Where it
// stands is something here that cannot be read.
func TestTailReadsTheEndOnly(t *testing.T) {
	dir := t.TempDir()
	w := newWriter(t, dir, Limit{Bytes: 64 << 10, Files: 1000})
	defer w.Close()
	for range 60 {
		write(t, w, runtime.Stdout, strings.Repeat(strings.Repeat("x", 999)+"\n", 64))
	}
	if err := errors.Join(os.Remove(segmentPath(dir, 1)), os.Mkdir(segmentPath(dir, 1), 0o700)); err != nil {
		t.Fatal(err)
	}
	write(t, w, runtime.Stdout, "last\n")
	for _, follow := range []bool{false, true} {
		var got []string
		for e, err := range Read(t.Context(), dir, Options{Tail: 2, Follow: follow}) {
			if err != nil {
				t.Fatal(err)
			}
			if got = append(got, e.Line); len(got) == 2 {
				break
			}
		}
		if len(got) != 2 || got[1] != "last" {
			t.Errorf("follow %v: the tail is %.80q", follow, got)
		}
	}
}

// TestSegmentsVanish: a log all of whose segments vanish whenever they are
// looked for ends in an error and not in a search without end.
func TestSegmentsVanish(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink("nowhere", segmentPath(dir, 1)); err != nil {
		t.Fatal(err)
	}
	for _, tail := range []int{-1, 0, 1} {
		var last error
		for _, err := range Read(t.Context(), dir, Options{Tail: tail}) {
			last = err
		}
		if last == nil || !strings.Contains(last.Error(), dir) {
			t.Errorf("tail of %d: %v", tail, last)
		}
	}
}

// TestReaderLetsGo: a reader that follows does not keep deleted segments on the
// disk.
func TestReaderLetsGo(t *testing.T) {
	dir := t.TempDir()
	w := newWriter(t, dir, Limit{Bytes: 300, Files: 8})
	defer w.Close()
	for i := range 100 {
		write(t, w, runtime.Stdout, fmt.Sprintln(i))
	}
	for _, tail := range []int{-1, 0, 1, 20} {
		r := &reader{cursor: cursor{dir: dir}, opts: Options{Tail: tail, Follow: true}}
		if err := r.seek(); err != nil {
			t.Fatal(err)
		}
		for i := range 30 {
			write(t, w, runtime.Stdout, fmt.Sprintln(i))
		}
		for {
			_, ok, err := r.cursor.next()
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				break
			}
		}
		if len(r.cursor.held) > 0 {
			t.Errorf("tail of %d: %d segments are held open", tail, len(r.cursor.held))
		}
		r.cursor.close()
		r.cursor.held.close()
	}
}

// TestLinesBack compares reading backwards with splitting.
func TestLinesBack(t *testing.T) {
	path := t.TempDir() + "/f"
	rapid.Check(t, func(t *rapid.T) {
		var data []byte
		var want []string
		for range rapid.IntRange(0, 20).Draw(t, "lines") {
			n := rapid.SampledFrom([]int{0, 1, 10, 1000, maxRecord, 200_000}).Draw(t, "length")
			if n <= maxRecord {
				want = append(want, fmt.Sprintf("%d %d", len(data), n))
			}
			data = append(data, strings.Repeat("x", n)+"\n"...)
		}
		end := len(data)
		data = append(data, strings.Repeat("y", rapid.SampledFrom([]int{0, 1, 100_000}).Draw(t, "rest"))...)
		if rapid.Bool().Draw(t, "with the rest") {
			end = len(data)
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		var got []string
		if _, err := linesBack(f, int64(end), func(off int64, line []byte) bool {
			if len(line) <= maxRecord {
				got = append(got, fmt.Sprintf("%d %d", off, len(line)))
			}
			return true
		}); err != nil {
			t.Fatal(err)
		}
		slices.Reverse(got)
		if !slices.Equal(got, want) {
			t.Fatalf("read %v, want %v", got, want)
		}
	})
}
