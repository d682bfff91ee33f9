package watch

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"testing/synctest"
	"time"
)

// handled returns the batch that comes of hints about a tree.
func handled(t *testing.T, root string, hints ...hint) (b Batch) {
	synctest.Test(t, func(t *testing.T) {
		out := newCoalescer(plain())
		p := &portable{path: root, out: out}
		for _, h := range hints {
			if err := p.handle(h); err != nil {
				t.Fatal(err)
			}
		}
		if out.first.IsZero() {
			t.Fatal("nothing is marked")
		}
		b = out.take()
	})
	return b
}

func TestHints(t *testing.T) {
	root := t.TempDir()
	in := func(name string) string { return filepath.Join(root, filepath.FromSlash(name)) }
	if err := os.MkdirAll(in("a/b/c"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(in("a/file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	all := Batch{All: true, Reason: ErrOverflow}
	for _, c := range []struct {
		name string
		hint hint
		want Batch
	}{
		{"file", hint{path: in("a/file")}, Batch{Dirs: []string{"a"}}},
		{"new file", hint{path: in("a/file"), deep: true}, Batch{Dirs: []string{"a"}}},
		{"gone", hint{path: in("a/gone/below")}, Batch{Dirs: []string{"a/gone"}}},
		{"directory", hint{path: in("a")}, Batch{Dirs: []string{".", "a"}}},
		{"new directory", hint{path: in("a"), deep: true}, Batch{Dirs: []string{".", "a", "a/b", "a/b/c"}}},
		{"root", hint{path: root}, Batch{Dirs: []string{"."}}},
		{"elsewhere", hint{path: filepath.Dir(root)}, all},
		{"lost", hint{path: in("a/file"), lost: true}, all},
		{"name with dots", hint{path: in("..a")}, Batch{Dirs: []string{"."}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := handled(t, root, c.hint); !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

// What comes while nobody handles it does not keep the source from ending.
func TestHintsEnd(t *testing.T) {
	root := t.TempDir()
	told, stopped := make(chan struct{}), make(chan struct{})
	p := &portable{path: root, out: newCoalescer(plain()), open: func(_ string, each func(string, bool, bool)) (func(), error) {
		go func() {
			defer close(stopped)
			close(told)
			each(root, false, false)
		}()
		return func() { <-stopped }, nil
	}}
	if err := p.start(); err != nil {
		t.Fatal(err)
	}
	<-told
	p.stop()
	p.stop()
	if p.events() != nil {
		t.Error("events come after stop")
	}
}

// Long before everything is reported.
func TestHintsOfThisSystem(t *testing.T) {
	root := t.TempDir()
	w, err := OpenPortable(root, WithFallback(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for _, dir := range []string{".", "a", "a/b", "a/b/c"} {
		full := filepath.Join(root, filepath.FromSlash(dir))
		if err := os.MkdirAll(full, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(full, "file"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		for named := false; !named; {
			select {
			case b := <-w.Changes():
				for _, d := range b.Dirs {
					named = named || d == dir
				}
			case <-time.After(20 * time.Second):
				t.Fatalf("%s is not named", dir)
			}
		}
	}
}
