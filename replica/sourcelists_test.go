package replica

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// sendAfterRestart sends a volume from a Copier that only has what it remembers, to one
// that remembers nothing, and returns how many bytes the sender got, and the report.
func sendAfterRestart(t *testing.T, dir, src, dst string) (int, Report) {
	t.Helper()
	from, _ := remembering(t, dir, src)
	n, _, report := countedCopy(t, from, New(), src, dst)
	return n, report
}

// The first change of a large file after a restart costs what it does at other times:
// the source knows its chunks still. Where what was kept is spoiled, the receiver is
// asked for them, and they are kept again.
func TestChunksAreRemembered(t *testing.T) {
	base := t.TempDir()
	src, dst, dir := filepath.Join(base, "src"), filepath.Join(base, "dst"), filepath.Join(base, "memory")
	content := make([]byte, 4<<20)
	_, _ = rand.NewChaCha8([32]byte{7}).Read(content)
	file := filepath.Join(src, "f")
	_, memory := remembering(t, dir, src)
	lists := listsOf(memory)
	change := func(what string, asks bool) {
		t.Helper()
		content[1<<20]++
		write(t, file, string(content))
		got, report := sendAfterRestart(t, dir, src, dst)
		if report.Transferred > 100<<10 {
			t.Errorf("%s: %d bytes were sent for one that changed", what, report.Transferred)
		}
		if asked := got > 5<<10; asked != asks {
			t.Errorf("%s: the source was sent %d bytes, which are with a list: %t", what, got, asked)
		}
	}
	write(t, file, string(content))
	sendAfterRestart(t, dir, src, dst)
	change("after a restart", false)

	kept, err := os.ReadFile(lists)
	if err != nil {
		t.Fatal(err)
	}
	for name, spoiled := range map[string][]byte{
		"empty": {}, "cut off": kept[:len(kept)-1], "noise": bytes.Repeat([]byte{0xff}, 300),
		"one bit": append(append(bytes.Clone(kept[:60]), kept[60]^1), kept[61:]...),
	} {
		if err := os.WriteFile(lists, spoiled, 0o600); err != nil {
			t.Fatal(err)
		}
		change(name, true)
		change(name+", afterwards", false)
	}
	if err := os.Remove(lists); err != nil {
		t.Fatal(err)
	}
	change("gone", true)
}

// What is kept of chunks is not written again where they are the same, nor where there
// are none.
func TestUnchangedChunksAreNotWritten(t *testing.T) {
	base := t.TempDir()
	src, dst, dir := filepath.Join(base, "src"), filepath.Join(base, "dst"), filepath.Join(base, "memory")
	_, memory := remembering(t, dir, src)
	lists := listsOf(memory)
	write(t, filepath.Join(src, "small"), "content")
	sendAfterRestart(t, dir, src, dst)
	if _, err := os.Lstat(lists); !os.IsNotExist(err) {
		t.Errorf("a file is there for no chunks: %v", err)
	}
	large := make([]byte, 1<<20)
	_, _ = rand.NewChaCha8([32]byte{8}).Read(large)
	write(t, filepath.Join(src, "large"), string(large))
	sendAfterRestart(t, dir, src, dst)
	was, err := os.Stat(lists)
	if err != nil {
		t.Fatal(err)
	}
	settle(t, memory)
	sendAfterRestart(t, dir, src, dst)
	write(t, filepath.Join(src, "small"), "other")
	sendAfterRestart(t, dir, src, dst)
	if is, err := os.Stat(lists); err != nil || !os.SameFile(is, was) {
		t.Errorf("the same chunks were written again: %v", err)
	}
	if err := os.Remove(filepath.Join(src, "large")); err != nil {
		t.Fatal(err)
	}
	sendAfterRestart(t, dir, src, dst)
	if is, err := os.Stat(lists); err != nil || is.Size() > 100 {
		t.Errorf("the chunks of a file that is gone are kept: %v, %v", is, err)
	}
}
