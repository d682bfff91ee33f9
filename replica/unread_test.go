package replica

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// brokenTree has a file "f" that the disk does not give any more.
type brokenTree struct{ tree }

func (b brokenTree) OpenFile(name string, flag int, perm fs.FileMode) (*os.File, error) {
	if name == "f" {
		return nil, &fs.PathError{Op: "open", Path: name, Err: syscall.EIO}
	}
	return b.tree.OpenFile(name, flag, perm)
}

// A file whose content was remembered, and that cannot be read when it is to be sent, does
// not keep the others from coming: it is one of those that cannot be read.
func TestFileThatCannotBeReadWhenItIsSent(t *testing.T) {
	base := t.TempDir()
	src, dst := filepath.Join(base, "src"), filepath.Join(base, "dst")
	write(t, filepath.Join(src, "f"), strings.Repeat("f", 2*deltaFrom))
	write(t, filepath.Join(src, "g"), "g")
	c := New()
	s, _ := lookAt(t, c, src)
	s.index.scanner.known["f"].at = time.Now().Add(time.Hour) // it was left alone for long
	s.openRoot = func(dir string) (tree, error) {
		root, err := openRoot(dir)
		return brokenTree{root}, err
	}
	s.index.scanner.root = brokenTree{s.root}
	report := receiveWith(t, c, src, dst, false)
	if !slices.Equal(report.Skipped, []string{"f"}) {
		t.Errorf("it reports %+v", report)
	}
	if got, err := os.ReadFile(filepath.Join(dst, "g")); err != nil || string(got) != "g" {
		t.Errorf("the other file is %q, %v", got, err)
	}
}
