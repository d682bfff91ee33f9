package replica

import (
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// keptBeside returns a receiver of a copy with one file "a", whose attic keeps what it
// loses, and what is in that: all contents, with where they are below it.
func keptBeside(t *testing.T, content string) (r *receiver, dir string, kept func() map[string]string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "copy")
	write(t, filepath.Join(dir, "a"), content)
	to, err := openTarget(dir, openRoot)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(to.close)
	r = &receiver{copy: to, log: slog.New(slog.DiscardHandler)}
	to.attic, to.report = (&beside{dir: dir, age: time.Hour, size: 1 << 20}).attic(), r.note
	to.attic.log = r.log
	to.attic.begin()
	return r, dir, func() map[string]string {
		found := make(map[string]string)
		err := filepath.WalkDir(to.attic.dir, func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			text, err := os.ReadFile(name)
			part, _, _ := strings.Cut(strings.TrimPrefix(name, to.attic.dir+string(filepath.Separator)), string(filepath.Separator))
			found[string(text)] = part
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
}

// round has the copy become a manifest, as far as its files go. Between finding out what
// is there and changing it, meanwhile is called.
func round(t *testing.T, r *receiver, m *manifest, contents map[string]string, meanwhile func()) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	r.m = m
	must(r.copy.index(t.Context(), m, true))
	must(r.setAside())
	meanwhile()
	for _, e := range m.entries {
		if content, comes := contents[e.path]; comes {
			c, err := r.copy.create(e)
			must(err)
			_, err = c.Write([]byte(content))
			must(err)
			must(c.accept())
		}
	}
	must(r.copy.settleArrived())
	_, err := r.copy.finish(t.Context(), m)
	must(err)
}

// What something else writes at a path that gets the same content once more is kept.
func TestWrittenWhereTheSameComesAgain(t *testing.T) {
	r, dir, kept := keptBeside(t, "content")
	m := &manifest{entries: []entry{volume, file("a", "content")}}
	round(t, r, m, map[string]string{"a": "content"}, func() {
		write(t, filepath.Join(dir, "new"), "mine")
		if err := os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, "a")); err != nil {
			t.Fatal(err)
		}
	})
	if got := kept(); got["mine"] != atticConflicts || len(r.conflicts) != 1 {
		t.Errorf("kept is %v, conflicts are %+v", got, r.conflicts)
	}
}

// What was in a directory before it became a copy is kept, also where the source removes
// before the end what came in its place.
func TestKeptOfBeforeTheFirstCopy(t *testing.T) {
	r, _, kept := keptBeside(t, "from before")
	round(t, r, &manifest{entries: []entry{volume, file("a", "1")}}, map[string]string{"a": "1"}, func() {})
	round(t, r, &manifest{entries: []entry{volume}}, nil, func() {})
	if got := kept(); got["from before"] != atticReplaced || got["1"] != atticReplaced {
		t.Errorf("kept is %v", got)
	}
}

// What is written at a path of which something was set aside in the same round is set
// aside as well, whether it is a file or has become a directory.
func TestSetAsideTwiceInARound(t *testing.T) {
	r, dir, kept := keptBeside(t, "mine 1")
	var paths []string
	aside := func(name string) {
		t.Helper()
		where, err := r.copy.attic.keepAside(r.copy.root, name, true)
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, where)
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	aside("a")
	write(t, filepath.Join(dir, "a"), "mine 2")
	aside("a")
	write(t, filepath.Join(dir, "a/b"), "mine 3")
	aside("a/b")
	if err := os.Remove(filepath.Join(dir, "a")); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "a"), "mine 4")
	aside("a")
	slices.Sort(paths)
	if got := kept(); len(got) != 4 || len(slices.Compact(paths)) != 4 {
		t.Errorf("kept is %v, at %q", got, paths)
	}
}
