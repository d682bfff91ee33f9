package replica

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
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
	for _, f := range seen.all {
		want := map[string]digest{"f": never, "h": never, "g": sha256.Sum256([]byte("changed"))}[f.path]
		if f.kind == kindFile && f.digest != want {
			t.Errorf("%s has the digest %x, want %x", f.path, f.digest, want)
		}
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
	dir := t.TempDir()
	for i := range mostSources + 5 {
		name := filepath.Join(dir, fmt.Sprint(i)+sourceSuffix)
		write(t, name, "")
		at := time.Unix(int64(1e9+i), 0)
		if err := os.Chtimes(name, at, at); err != nil {
			t.Fatal(err)
		}
	}
	if err := pruneSources(dir); err != nil {
		t.Fatal(err)
	}
	left, _ := filepath.Glob(filepath.Join(dir, "*"))
	if _, err := os.Stat(filepath.Join(dir, "5"+sourceSuffix)); len(left) != mostSources || err != nil {
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
