package replica

import (
	"path/filepath"
	"strings"
	"testing"
)

// What is read counts, small files and large ones.
func TestProgressOfLooking(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "large"), strings.Repeat("x", deltaFrom))
	write(t, filepath.Join(dir, "small"), "content")
	root, err := openRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	var files int
	var bytes int64
	s := &scanner{root: root, seen: func(f int, b int64) { files, bytes = files+f, bytes+b }}
	for range 2 {
		files, bytes = 0, 0
		if _, err := s.scan(t.Context()); err != nil {
			t.Fatal(err)
		}
		if files != 2 || bytes != deltaFrom+7 {
			t.Errorf("%d files and %d bytes were counted, want 2 and %d", files, bytes, deltaFrom+7)
		}
	}
}
