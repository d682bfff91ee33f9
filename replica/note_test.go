package replica

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// observer counts how often a file "f" is opened to be read, and calls hooks after one
// was moved there, and after that was looked at.
type observer struct {
	opened         int
	moved          bool
	onMove, onLook func()
}

// observed is a tree with one.
type observed struct {
	tree
	*observer
}

func (o observed) OpenFile(name string, flag int, perm fs.FileMode) (*os.File, error) {
	if name == "f" && flag&(os.O_WRONLY|os.O_RDWR) == 0 {
		o.opened++
	}
	return o.tree.OpenFile(name, flag, perm)
}

func (o observed) Rename(from, to string) error {
	err := o.tree.Rename(from, to)
	if o.moved = to == "f"; o.moved && o.onMove != nil {
		o.onMove()
	}
	return err
}

func (o observed) Lstat(name string) (fs.FileInfo, error) {
	info, err := o.tree.Lstat(name)
	if name == "f" && o.moved {
		if o.moved = false; o.onLook != nil {
			o.onLook()
		}
	}
	return info, err
}

// observe receives a volume into dst.
func observe(t *testing.T, src, dst string, o *observer) error {
	t.Helper()
	here, there := net.Pipe()
	var wg sync.WaitGroup
	wg.Go(func() {
		_, _ = New().Send(t.Context(), here, src) // the receiver's error counts
		_ = here.Close()
	})
	c := New(Remember(time.Hour, 1<<20))
	c.openRoot = func(dir string) (tree, error) {
		root, err := openRoot(dir)
		return observed{root, o}, err
	}
	_, err := c.Receive(t.Context(), there, dst, ReceiveOptions{})
	_ = there.Close()
	wg.Wait()
	return err
}

// What a copy wrote itself is not read again: its digest was computed on the way. Only
// where the source's time of modification proves nothing it is.
func TestWhatWasWrittenIsNotReadAgain(t *testing.T) {
	src, dst := t.TempDir(), filepath.Join(t.TempDir(), "copy")
	file := filepath.Join(src, "f")
	write(t, file, strings.Repeat("content ", 1<<17))
	old := time.Now().Add(-time.Minute)
	if err := os.Chtimes(file, old, old); err != nil {
		t.Fatal(err)
	}
	for _, what := range []string{"first", "second"} {
		o := &observer{}
		if err := observe(t, src, dst, o); err != nil || o.opened != 0 {
			t.Errorf("the %s copy read it %d times: %v", what, o.opened, err)
		}
	}
	write(t, file, strings.Repeat("another ", 1<<17))
	ahead := time.Now().Add(time.Minute)
	if err := os.Chtimes(file, ahead, ahead); err != nil {
		t.Fatal(err)
	}
	o := &observer{}
	if err := observe(t, src, dst, o); err != nil || o.opened == 0 {
		t.Errorf("it was not read: %v", err)
	}
}

// What something else writes into a file that has just come is noticed, whatever the
// moment.
func TestWritesIntoWhatHasJustComeAreNoticed(t *testing.T) {
	src := t.TempDir()
	content := strings.Repeat("content ", 1<<17)
	write(t, filepath.Join(src, "f"), content)
	old := time.Now().Add(-time.Minute)
	if err := os.Chtimes(filepath.Join(src, "f"), old, old); err != nil {
		t.Fatal(err)
	}
	for _, when := range []string{"moved", "looked at"} {
		dst := filepath.Join(t.TempDir(), "copy")
		wrote := false
		o := &observer{}
		interfere := func() {
			wrote = true
			write(t, filepath.Join(dst, "f"), "C"+content[1:])
		}
		if o.onMove = interfere; when != "moved" {
			o.onMove, o.onLook = nil, interfere
		}
		if err := observe(t, src, dst, o); !errors.Is(err, ErrVerify) || !wrote {
			t.Errorf("after it was %s: %v", when, err)
		}
	}
}
