//go:build unix

package replica

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// restartedCopy makes a copy between two Copiers that know what is on their disks, and
// returns how many bytes came.
func restartedCopy(t *testing.T, base string, opts ...func(from, to *Copier)) (int, Report) {
	t.Helper()
	from, to := New(RememberSources(filepath.Join(base, "memory"))), New(Remember(time.Hour, 1<<20))
	for _, o := range opts {
		o(from, to)
	}
	_, n, report := countedCopy(t, from, to, filepath.Join(base, "src"), filepath.Join(base, "copy"))
	return n, report
}

// After a restart of both sides, of a volume in which little has changed little is
// listed: whatever the number of its files.
func TestChangesSinceAreListed(t *testing.T) {
	base := t.TempDir()
	src := filepath.Join(base, "src")
	for i := range 500 {
		write(t, filepath.Join(src, fmt.Sprintf("file%d", i)), fmt.Sprint(i))
	}
	if err := errors.Join(os.Link(filepath.Join(src, "file1"), filepath.Join(src, "other")), syscall.Mkfifo(filepath.Join(src, "fifo"), 0o600)); err != nil {
		t.Fatal(err)
	}
	first, _ := restartedCopy(t, base)

	// Of a special file the digest of the copy says nothing.
	write(t, filepath.Join(src, "file7"), "changed")
	if err := errors.Join(os.Remove(filepath.Join(src, "file8")), os.Remove(filepath.Join(src, "fifo")), syscall.Mkfifo(filepath.Join(src, "fifo2"), 0o600)); err != nil {
		t.Fatal(err)
	}
	again, report := restartedCopy(t, base)
	if again > 1000 || report.Files != 500 || report.Transferred != int64(len("changed")) || report.Removed != 1 {
		t.Errorf("of two files that changed, %d bytes came: %+v", again, report)
	}
	if got, err := os.ReadFile(filepath.Join(base, "copy", "file7")); err != nil || string(got) != "changed" {
		t.Errorf("file7 is %q, %v", got, err)
	}

	// Who does not know of that gets the whole list, and so does who has what is not
	// remembered.
	for what, old := range map[string]func(from, to *Copier){
		"an older sender":          func(from, _ *Copier) { from.highest = version4 - 1 },
		"an older receiver":        func(_, to *Copier) { to.highest = version4 - 1 },
		"a sender without memory":  func(from, _ *Copier) { from.sourcesDir = "" },
		"a receiver of before":     func(from, _ *Copier) { misremember(t, from.memoryOf(src), "another was sent since") },
		"a memory that is spoiled": func(from, _ *Copier) { misremember(t, from.memoryOf(src), "") },
	} {
		write(t, filepath.Join(src, "file9"), what)
		if n, report := restartedCopy(t, base, old); n < first/2 || report.Transferred != int64(len(what)) {
			t.Errorf("%s: %d bytes came, and at first %d: %+v", what, n, first, report)
		}
	}
}

// misremember makes what is remembered of a source something else: another volume, or, without
// a name of a file in that, nothing that can be read.
func misremember(t *testing.T, memory, name string) {
	t.Helper()
	mem, err := loadMemory(memory)
	if err != nil || mem == nil {
		t.Fatal(mem, err)
	}
	if name == "" {
		err = os.Truncate(memory, 100)
	} else {
		e := file("zzz"+name, name)
		err = errors.Join(mem.m.add(e), mem.store(memory))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// What a receiver cannot keep is not in what it had, either.
func TestPastAsItWasKept(t *testing.T) {
	m := &manifest{keeps: keepAll}
	mine := file("a", "1")
	mine.owner = owner{1, 2, true}
	for _, e := range []entry{volume, mine, {path: "b", kind: kindHardLink, target: "a"}, {path: "fifo", kind: kindSpecial}} {
		if err := m.add(e); err != nil {
			t.Fatal(err)
		}
	}
	name := filepath.Join(t.TempDir(), "memory")
	if err := (&memory{m: m}).store(name); err != nil {
		t.Fatal(err)
	}
	s := &source{memory: name}
	s.keepPast()
	defer s.past.Close()
	for _, keeps := range []keeps{keepAll, keepAll &^ keepHardLinks, 0} {
		want := &manifest{keeps: keeps}
		for _, e := range m.entries {
			if err := want.addAsKept(e); err != nil {
				t.Fatal(err)
			}
		}
		got, err := s.was(want.digest(), ability{keeps: keeps})
		if err != nil || got == nil || len(got.entries) != 3 || (got.entries[2].kind == kindHardLink) != (keeps&keepHardLinks != 0) || got.entries[2].path != "b" {
			t.Errorf("for one that keeps %v it was %+v, %v", keeps, got, err)
		}
		if got, err := s.was(digest{1}, ability{keeps: keeps}); got != nil || err != nil {
			t.Errorf("another one was %+v, %v", got, err)
		}
	}
}

// What is sent as changes to what the receiver had is checked as any list is, and taken
// only from who was told what that is.
func TestHostileChangesSince(t *testing.T) {
	nothing := func(*wire) error { return nil }
	for what, c := range map[string]struct {
		offers bool
		send   func(w *wire) error
	}{
		"nothing was said to be there":  {false, nothing},
		"removes what was never there":  {true, func(w *wire) error { return w.write(frameRemoved, appendText(nil, "nothing")) }},
		"comes out otherwise than said": {true, nothing},
		"a path that leads out": {true, func(w *wire) error {
			return w.entries([]entry{file("../x", "1")})
		}},
		"what is left out in the midst": {true, func(w *wire) error { return w.write(frameLeftOut, nil) }},
	} {
		t.Run(what, func(t *testing.T) {
			src, dst := t.TempDir(), filepath.Join(t.TempDir(), "copy")
			write(t, filepath.Join(src, "f"), "1")
			if c.offers {
				receivedBytes(t, src, dst)
			}
			here, there := net.Pipe()
			go func() {
				w := newWire(here)
				err := w.welcome(func() error { return nil })
				if err == nil {
					_, _, err = w.offered()
				}
				m := &manifest{keeps: keepAll, entries: []entry{volume}}
				_ = errors.Join(err, w.write(frameSince), c.send(w), w.seal(m, m.digest()), w.flush())
				_, _, _ = w.read()
				_ = here.Close()
			}()
			if _, err := New(Remember(time.Hour, 1<<20)).Receive(t.Context(), there, dst, ReceiveOptions{}); !errors.Is(err, ErrProtocol) {
				t.Errorf("Receive: %v", err)
			}
			_ = there.Close()
			if got, err := os.ReadFile(filepath.Join(dst, "f")); c.offers && (err != nil || string(got) != "1") {
				t.Errorf("the copy has %q, %v", got, err)
			}
		})
	}
}
