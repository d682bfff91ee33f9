package logfile

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/budgiehq/budgie/runtime"
	"pgregory.net/rapid"
)

// fakeDisk is a file system of so many bytes, so many of which others use.
type fakeDisk struct {
	total, others uint64
	asked         int
}

func (d *fakeDisk) space(dir string) (free, total uint64, ok bool) {
	d.asked++
	used := d.others
	all, _ := segments(dir)
	for _, seq := range all {
		if info, err := os.Stat(segmentPath(dir, seq)); err == nil {
			used += uint64(info.Size())
		}
	}
	return d.total - min(used, d.total), d.total, true
}

// TestReserve: a log gives up its oldest segments, then lines, before it takes
// the last room, and says so when there is room again.
func TestReserve(t *testing.T) {
	dir := t.TempDir()
	w := newWriter(t, dir, Limit{Bytes: 20 << 10, Files: 100})
	defer w.Close()
	disk := &fakeDisk{total: 160 << 10}
	w.space = disk.space
	at := time.Now()
	put := func(i int) error {
		at = at.Add(time.Millisecond)
		return w.Write(runtime.Stdout, at, fmt.Appendf(nil, "%d %s\n", i, strings.Repeat("x", 100)))
	}
	const reserve = 10 << 10
	for i := range 4000 {
		if err := put(i); err != nil {
			t.Fatalf("line %d with old segments to give up: %v", i, err)
		}
		if free, _, _ := disk.space(dir); free < reserve {
			t.Fatalf("after line %d there are %d bytes left", i, free)
		}
	}
	if all, _ := segments(dir); len(all) < 5 || all[0] == 1 {
		t.Fatalf("the segments are %v: no use was made of the room, or none was given up", all)
	}
	disk.others, disk.asked = disk.total-reserve, 0
	w.budget = 0
	for i := range 1000 {
		if err := put(4000 + i); !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("line %d without room: %v", i, err)
		}
	}
	if all, _ := segments(dir); len(all) != 1 || disk.asked > 200 {
		t.Fatalf("the segments are %v, after asking for room %d times for 1000 lines", all, disk.asked)
	}
	disk.others, at = 0, at.Add(fullPause)
	if err := put(5000); err != nil {
		t.Fatal(err)
	}
	got := read(t, dir, Options{Tail: 3})
	for i, want := range []string{"stdout 3999 ", "stderr budgie: 1000 lines dropped: disk full", "stdout 5000 "} {
		if !strings.HasPrefix(got[i], want) {
			t.Errorf("entry %d of the last is %.60q, want %q", i, got[i], want)
		}
	}
}

// TestDropped writes lines in pieces while the room comes and goes, or writes
// fail: what is read are whole lines, beginnings of lines, and notes that add
// up to what is missing.
func TestDropped(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "log")
		if err != nil {
			rt.Fatal(err)
		}
		w := newWriter(rt, dir, Limit{}) // one segment: none is given up
		defer w.Close()
		sound := w.f
		broken, err := os.Open(sound.Name()) // for reading
		if err != nil {
			rt.Fatal(err)
		}
		defer broken.Close()
		room := true
		w.space = func(string) (uint64, uint64, bool) {
			if room {
				return 1 << 30, 1 << 40, true
			}
			return 0, 1 << 40, true
		}
		at, n := time.Now(), 0
		open, all := map[runtime.LogStream]string{}, []string{}
		streams := rapid.SampledFrom([]runtime.LogStream{runtime.Stdout, runtime.Stderr})
		for range rapid.IntRange(0, 40).Draw(rt, "writes") {
			switch rapid.IntRange(0, 6).Draw(rt, "change") {
			case 0, 1:
				room, w.budget, at = !room, 0, at.Add(fullPause)
			case 2:
				w.f = broken
			case 3:
				w.f = sound
			}
			stream, data := streams.Draw(rt, "stream"), ""
			for range rapid.IntRange(1, 4).Draw(rt, "pieces") {
				if open[stream] == "" {
					open[stream] = fmt.Sprintf("%s <%d", stream, n)
					data += fmt.Sprintf("<%d", n)
					n++
				}
				more := strings.Repeat("x", rapid.IntRange(0, 60).Draw(rt, "length"))
				open[stream], data = open[stream]+more, data+more
				if rapid.Bool().Draw(rt, "ended") {
					all = append(all, open[stream]+">")
					open[stream], data = "", data+">\n"
				}
			}
			if err := w.Write(stream, at, []byte(data)); err != nil && !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EBADF) {
				rt.Fatal(err)
			}
		}
		w.f, room, w.budget = sound, true, 0
		if err := w.Finish(at.Add(fullPause)); err != nil {
			rt.Fatal(err)
		}
		for _, line := range open {
			if line != "" {
				all = append(all, line)
			}
		}
		dropped := 0
		for _, e := range read(rt, dir, Options{}) {
			if _, note, ok := strings.Cut(e, " budgie: "); ok {
				var n int
				if _, err := fmt.Sscan(note, &n); err != nil {
					rt.Fatalf("%q: %v", e, err)
				}
				dropped += n
				continue
			}
			i := slices.Index(all, e)
			if i >= 0 {
				all = slices.Delete(all, i, i+1)
			} else if !slices.ContainsFunc(all, func(l string) bool { return strings.HasPrefix(l, e) }) {
				rt.Fatalf("%q is nothing that was written", e)
			}
		}
		if dropped != len(all) {
			rt.Fatalf("%d lines are said to be dropped, but these are missing: %q", dropped, all)
		}
	})
}
