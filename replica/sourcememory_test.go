package replica

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// remembering returns a Copier as after a restart, and the file in which it
// remembers src.
func remembering(t *testing.T, dir, src string) (*Copier, string) {
	t.Helper()
	c := New(RememberSources(dir))
	return c, c.memoryOf(src)
}

// After a restart a file that did not change is not read again, and one that did is.
func TestSourceIsRemembered(t *testing.T) {
	base := t.TempDir()
	src, dir := filepath.Join(base, "src"), filepath.Join(base, "memory")
	write(t, filepath.Join(src, "f"), "content")
	write(t, filepath.Join(src, "g"), "other")
	if err := os.Link(filepath.Join(src, "f"), filepath.Join(src, "h")); err != nil {
		t.Fatal(err)
	}
	c, file := remembering(t, dir, src)
	receiveWith(t, c, src, filepath.Join(base, "one"), false)
	mem, err := loadMemory(file)
	if err != nil || mem == nil {
		t.Fatalf("it remembers %v, %v", mem, err)
	}
	// What it never was shows whether it is believed: it is, by its times alone.
	never := sha256.Sum256([]byte("never was"))
	for i, e := range mem.m.entries {
		if e.path == "f" || e.path == "g" {
			mem.m.entries[i].digest = never
			k := mem.known[e.path]
			k.digest, k.at = never, time.Now().Add(time.Hour)
			mem.known[e.path] = k
		}
	}
	if err := mem.store(file); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(src, "g"), "changed")
	c, _ = remembering(t, dir, src)
	_, seen := lookAt(t, c, src)
	var paths []string
	for _, f := range seen.all {
		paths = append(paths, f.path)
		want := map[string]digest{"f": never, "h": never, "g": sha256.Sum256([]byte("changed"))}[f.path]
		if f.kind == kindFile && f.digest != want {
			t.Errorf("%s has the digest %x, want %x", f.path, f.digest, want)
		}
	}
	if !slices.Equal(paths, []string{"", "f", "g", "h"}) {
		t.Errorf("there is %q", paths)
	}
}

// A memory that is not what was written is not believed, and written anew.
func TestSourceMemorySpoiled(t *testing.T) {
	base := t.TempDir()
	src, dir := filepath.Join(base, "src"), filepath.Join(base, "memory")
	write(t, filepath.Join(src, "f"), "content")
	c, file := remembering(t, dir, src)
	receiveWith(t, c, src, filepath.Join(base, "copy"), false)
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for name, spoiled := range map[string][]byte{
		"empty": {}, "cut off": whole[:len(whole)-1], "noise": bytes.Repeat([]byte{0xff}, 300),
		"one bit": append(append(bytes.Clone(whole[:40]), whole[40]^1), whole[41:]...),
	} {
		if err := os.WriteFile(file, spoiled, 0o600); err != nil {
			t.Fatal(err)
		}
		c, _ := remembering(t, dir, src)
		receiveWith(t, c, src, filepath.Join(base, "copy"), false)
		if mem, err := loadMemory(file); err != nil || len(mem.m.entries) != 2 {
			t.Errorf("%s: afterwards it has %v, %v", name, mem, err)
		}
	}
}

// Not everything that was ever sent is remembered.
func TestSourceMemoryIsBounded(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "no[pattern")
	for i := range mostSources + 5 {
		name := filepath.Join(dir, fmt.Sprint(i)+sourceSuffix)
		write(t, name, "")
		write(t, listsOf(name), "")
		at := time.Unix(int64(1e9+i), 0)
		if err := os.Chtimes(name, at, at); err != nil {
			t.Fatal(err)
		}
	}
	if err := pruneSources(dir); err != nil {
		t.Fatal(err)
	}
	left, _ := os.ReadDir(dir)
	if _, err := os.Stat(filepath.Join(dir, "5"+sourceSuffix)); len(left) != 2*mostSources || err != nil {
		t.Errorf("%d are left, and the first of those that are to stay: %v", len(left), err)
	}
}

// A file whose digest is remembered, and not its chunks, is sent as what changed.
func TestChangesAfterARestart(t *testing.T) {
	base := t.TempDir()
	src, dst := filepath.Join(base, "src"), filepath.Join(base, "dst")
	content := make([]byte, 2<<20)
	_, _ = rand.NewChaCha8([32]byte{9}).Read(content)
	write(t, filepath.Join(src, "f"), string(content))
	receiveWith(t, New(), src, dst, false)
	content[1<<20]++
	write(t, filepath.Join(src, "f"), string(content))
	c := New()
	s, _ := lookAt(t, c, src)
	k := s.index.scanner.known["f"]
	k.at = time.Now().Add(time.Hour) // so that it is not read again
	s.index.scanner.known["f"] = k
	s.lists = New().lists
	if r := receiveWith(t, c, src, dst, false); r.Transferred > 100<<10 {
		t.Errorf("%d bytes were sent for one that changed", r.Transferred)
	}
}

// lookAt returns the source of a volume after a look at it, until the test ends.
func lookAt(t *testing.T, c *Copier, dir string) (*source, *sight) {
	t.Helper()
	s, release, err := c.acquire(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	seen, err := s.list(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s, seen
}

// settle makes what is remembered old enough that files need not be read again, and the
// file that it is in as well.
func settle(t *testing.T, file string) {
	t.Helper()
	mem, err := loadMemory(file)
	if err != nil || mem == nil {
		t.Fatalf("%s: %v, %v", file, mem, err)
	}
	for _, k := range mem.known {
		k.at = time.Now().Add(time.Hour)
	}
	if err := errors.Join(mem.store(file), os.Chtimes(file, time.Time{}, time.Unix(1e9, 0))); err != nil {
		t.Fatal(err)
	}
}

// What either side remembers is not written again where nothing has changed, and it is
// where something has.
func TestUnchangedMemoryIsNotWritten(t *testing.T) {
	base := t.TempDir()
	src, dst, dir := filepath.Join(base, "src"), filepath.Join(base, "copy"), filepath.Join(base, "memory")
	write(t, filepath.Join(src, "f"), "content")
	write(t, filepath.Join(src, "sub", "g"), "other")
	c, file := remembering(t, dir, src)
	files := []string{file, dst + ".index"}
	// copied makes a copy, and returns which of the files are others afterwards.
	copied := func() (r Report, written [2]bool) {
		var was [2]os.FileInfo
		for i, name := range files {
			was[i], _ = os.Stat(name)
		}
		c, _ = remembering(t, dir, src)
		c.remember = true
		r = receiveWith(t, c, src, dst, false)
		for i, name := range files {
			is, err := os.Stat(name)
			written[i] = err != nil || !os.SameFile(is, was[i])
		}
		return r, written
	}
	first, _ := copied()
	settle(t, files[0])
	settle(t, files[1])
	again, written := copied()
	if written != [2]bool{} {
		t.Errorf("what the source and the copy remember was written: %v", written)
	}
	if again.Digest != first.Digest || again.Files != first.Files || again.Bytes != first.Bytes || again.Transferred != 0 {
		t.Errorf("the second copy is %+v, the first %+v", again, first)
	}
	if info, err := os.Stat(file); err != nil || time.Since(info.ModTime()) > time.Hour {
		t.Errorf("what was of use seems to be from %v, %v: it would be pruned", info.ModTime(), err)
	}
	write(t, filepath.Join(dst, "sub", "g"), "mine")
	if r, _ := copied(); len(r.Conflicts) != 1 {
		t.Errorf("what something else wrote into the copy gave the conflicts %v", r.Conflicts)
	}
	write(t, filepath.Join(src, "f"), "changed")
	if _, written := copied(); written != [2]bool{true, true} {
		t.Errorf("what the source and the copy remember was written after a change: %v", written)
	}
	settle(t, files[0])
	if err := os.Remove(filepath.Join(src, "sub", "g")); err != nil {
		t.Fatal(err)
	}
	if _, written := copied(); !written[0] {
		t.Error("what the source remembers was not written after a removal")
	}
}
