package watch

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
)

// hint is something that happened at a path, or with lost something that
// nobody knows.
type hint struct {
	path       string
	deep, lost bool
}

// portable is the backend of systems other than Linux. It takes events for
// hints, which may be late, under another name or missing: the loop adds
// reports of everything.
type portable struct {
	path string // without links
	out  *coalescer
	// open is hints.Open, which not every system's program should have in it.
	open func(root string, each func(path string, deep, lost bool)) (stop func(), err error)

	info   os.FileInfo // of the root
	hints  chan hint
	ending func() // nil while nothing is watched
}

// newPortable watches root by the hints of open.
func newPortable(root string, c config, open func(string, func(string, bool, bool)) (func(), error)) (Watcher, error) {
	abs, err := filepath.Abs(root)
	if err == nil {
		abs, err = filepath.EvalSymlinks(abs)
	}
	if err != nil {
		return nil, fmt.Errorf("watch %s: %w", root, err)
	}
	out := newCoalescer(c)
	w, err := newWatcher(c, out, &portable{path: abs, out: out, open: open}, true)
	if err != nil {
		return nil, fmt.Errorf("watch %s: %w", root, err)
	}
	return w, nil
}

func (p *portable) start() error {
	p.stop()
	info, err := statRoot(p.path)
	if err != nil {
		return err
	}
	to, quit := make(chan hint), make(chan struct{})
	stop, err := p.open(p.path, func(path string, deep, lost bool) {
		select {
		case to <- hint{path, deep, lost}:
		case <-quit:
		}
	})
	if err != nil {
		return err
	}
	p.info, p.hints = info, to
	p.ending = sync.OnceFunc(func() {
		close(quit)
		stop()
	})
	return nil
}

func (p *portable) stop() {
	if p.ending != nil {
		p.ending()
	}
	p.hints, p.ending = nil, nil
}

func (p *portable) check() error { return rootIs(p.path, p.info) }

func (p *portable) events() <-chan hint { return p.hints }

func (p *portable) handle(h hint) error {
	rel, err := filepath.Rel(p.path, h.path)
	if h.lost || err != nil || rel == ".." || strings.HasPrefix(rel, ".."+string(filepath.Separator)) {
		// Events go on: nothing has to begin anew.
		p.out.all(ErrOverflow)
		return nil
	}
	rel = filepath.ToSlash(rel)
	p.out.dirty(path.Dir(rel))
	info, err := os.Lstat(h.path)
	if err != nil || !info.IsDir() {
		return nil
	}
	p.out.dirty(rel)
	if !h.deep {
		return nil
	}
	// Of what was made in it before the system looked there is no event.
	_ = filepath.WalkDir(h.path, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			if below, err := filepath.Rel(p.path, path); err == nil {
				p.out.dirty(filepath.ToSlash(below))
			}
		}
		return nil
	})
	return nil
}
