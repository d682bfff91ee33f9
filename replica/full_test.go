package replica

import (
	"bytes"
	"crypto/sha256"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"
)

// spoil changes a file behind its times, and has known say that it is what it was.
func spoil(t *testing.T, dir, content string, known map[string]*hashed, believed digest) {
	t.Helper()
	name := filepath.Join(dir, "f")
	was, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	write(t, name, content)
	if err := os.Chtimes(name, time.Time{}, was.ModTime()); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	fp, ok := fingerprintOf(info)
	if !ok {
		t.Skip("this system tells no versions of files apart: they are read again in any case")
	}
	known["f"] = &hashed{fp: fp, size: info.Size(), digest: believed, at: time.Now().Add(time.Hour)}
}

// receiveWith makes a copy, and returns its report.
func receiveWith(t *testing.T, c *Copier, src, dst string, full bool) Report {
	t.Helper()
	here, there := net.Pipe()
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := c.Send(t.Context(), here, src); err != nil {
			t.Error(err)
			_ = here.Close()
		}
	})
	report, err := c.Receive(t.Context(), there, dst, ReceiveOptions{Full: full})
	_ = there.Close()
	wg.Wait()
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// What is spoiled in a copy, and seems to be as it was, is found by a full check
// alone, named, kept and mended.
func TestFullCheckOfTheCopy(t *testing.T) {
	base := t.TempDir()
	src, dst := filepath.Join(base, "src"), filepath.Join(base, "dst")
	write(t, filepath.Join(src, "f"), "content")
	write(t, filepath.Join(src, "g"), "other")
	c := New(Remember(time.Hour, 1<<20))
	receiveWith(t, c, src, dst, false)
	side := &beside{dir: dst}
	mem, err := loadMemory(side.memory())
	if err != nil {
		t.Fatal(err)
	}
	spoil(t, dst, "c0ntent", mem.known, sha256.Sum256([]byte("content")))
	if err := mem.store(side.memory()); err != nil {
		t.Fatal(err)
	}
	if r := receiveWith(t, c, src, dst, false); len(r.Mended) > 0 || len(r.Conflicts) > 0 {
		t.Fatalf("without a full check it reports %+v", r) // or this test shows nothing
	}
	r := receiveWith(t, c, src, dst, true)
	if !slices.Equal(r.Mended, []string{"f"}) || len(r.Conflicts) != 1 {
		t.Fatalf("it reports %+v", r)
	}
	if got, err := os.ReadFile(filepath.Join(dst, "f")); err != nil || string(got) != "content" {
		t.Errorf("f is %q, %v", got, err)
	}
	if got, err := os.ReadFile(r.Conflicts[0].Kept); err != nil || string(got) != "c0ntent" {
		t.Errorf("kept is %q, %v", got, err)
	}
}

// The same at the source, of which a Send under way remembers something.
func TestFullCheckOfTheSource(t *testing.T) {
	base := t.TempDir()
	src := filepath.Join(base, "src")
	content := bytes.Repeat([]byte("content "), 1000)
	write(t, filepath.Join(src, "f"), string(content))
	c := New()
	s, _ := lookAt(t, c, src)
	content[0] = 'C'
	spoil(t, src, string(content), s.index.scanner.known, s.index.scanner.known["f"].digest)
	receiveWith(t, c, src, filepath.Join(base, "dst"), true)
	if got, err := os.ReadFile(filepath.Join(base, "dst", "f")); err != nil || !bytes.Equal(got, content) {
		t.Errorf("the copy is not what the source has (%v)", err)
	}
	if s.index.scanner.known["f"].digest != sha256.Sum256(content) {
		t.Error("the source was not read again")
	}
}

// Nor is a source taken for what its copy was by what is remembered of it.
func TestFullCheckOfARememberedSource(t *testing.T) {
	base := t.TempDir()
	src, dst, dir := filepath.Join(base, "src"), filepath.Join(base, "dst"), filepath.Join(base, "memory")
	write(t, filepath.Join(src, "f"), "content")
	start := func() *Copier { return New(Remember(time.Hour, 1<<20), RememberSources(dir)) }
	c := start()
	receiveWith(t, c, src, dst, false)
	file := c.memoryOf(src)
	mem, err := loadMemory(file)
	if err != nil {
		t.Fatal(err)
	}
	spoil(t, src, "c0ntent", mem.known, sha256.Sum256([]byte("content")))
	if err := mem.store(file); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		full bool
		want string
	}{{false, "content"}, {true, "c0ntent"}} { // with the former, or this test shows nothing
		receiveWith(t, start(), src, dst, c.full)
		if got, err := os.ReadFile(filepath.Join(dst, "f")); err != nil || string(got) != c.want {
			t.Errorf("full: %t: f is %q, %v, want %q", c.full, got, err, c.want)
		}
	}
}
