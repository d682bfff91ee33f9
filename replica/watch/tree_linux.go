package watch

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// entry is a name in a watched directory. A nil parent stands for the root.
type entry struct {
	parent *node
	name   string
}

func (e entry) path() string {
	if e.parent == nil {
		return "."
	}
	return e.parent.join(e.name)
}

// known returns the node of the entry, if it is watched.
func (e entry) known() *node {
	if e.parent == nil {
		return nil
	}
	return e.parent.children[e.name]
}

// walk is a visit to a directory and all below. Where the watches run out it
// goes on, and counts what it could not watch.
type walk struct {
	w       *inotify
	todo    []entry
	limit   error
	missing int
}

// walk watches what an entry leads to, if that is a directory, and all
// directories below, and marks them. With onlyNew it leaves alone what is
// watched under this name already.
func (w *inotify) walk(e entry, onlyNew bool) error {
	k := &walk{w: w}
	if err := k.visit(e, onlyNew); err != nil {
		return err
	}
	for len(k.todo) > 0 {
		next := k.todo[len(k.todo)-1]
		k.todo = k.todo[:len(k.todo)-1]
		// Else it was found elsewhere meanwhile, with all that is in it.
		if k.limit == nil && !w.has(next.parent) {
			continue
		}
		if err := k.visit(next, false); err != nil {
			return err
		}
	}
	if k.limit != nil {
		return watchesError(k.limit, k.missing)
	}
	return nil
}

// visit watches one directory before it lists it, so that what appears in it is
// found by one or the other.
func (k *walk) visit(e entry, onlyNew bool) error {
	known := e.known()
	dir, err := k.w.open(e.path())
	if dir == nil {
		k.w.drop(known)
		if errors.Is(err, unix.EACCES) && e.parent != nil {
			k.w.mark(e.path())
			return nil
		}
		return err
	}
	defer dir.Close()
	var n *node
	if k.limit == nil {
		if n, err = k.w.watch(e, dir); errors.Is(err, unix.ENOSPC) {
			k.limit = err
		} else if err != nil || n == nil || (onlyNew && n == known) {
			return err
		}
	}
	if k.limit != nil {
		k.missing++
		n = &node{path: e.path(), parent: e.parent}
	}
	k.w.mark(n.path)
	return subdirectories(dir, func(name string) { k.todo = append(k.todo, entry{n, name}) })
}

// mark makes a directory dirty, unless the watcher is only beginning: then
// everything is, or nobody was told anything yet.
func (w *inotify) mark(dir string) {
	if w.read != nil {
		w.dirty(dir)
	}
}

// has says whether a node is in the tree still.
func (w *inotify) has(n *node) bool { return w.byWD[n.wd] == n }

// watch adds a watch for an open directory and its node. It returns the node
// that is there already if it is for the same directory, and nil for a
// directory that cannot have one.
func (w *inotify) watch(e entry, dir *os.File) (*node, error) {
	// Through the open directory: what is watched is what will be listed, and no
	// component of the path can have become a link.
	wd, err := w.kernel.add(w.fd, fmt.Sprintf("/proc/self/fd/%d", dir.Fd()), watchMask)
	if errors.Is(err, unix.ENOENT) {
		return nil, fmt.Errorf("watch %s through /proc/self/fd, which must be mounted: %w", e.path(), err)
	}
	if err != nil {
		return nil, fmt.Errorf("watch %s: %w", e.path(), err)
	}
	known := e.known()
	if old := w.byWD[wd]; old != nil {
		if old == known {
			return old, nil
		}
		if old == w.root {
			return nil, nil // a bind mount of the root below itself
		}
		// It has moved, and the event that says so is still in the queue.
		delete(w.byWD, wd)
		w.drop(old)
	}
	w.drop(known)
	if e.parent != nil && !w.has(e.parent) {
		// It was below its own old place: events that will set this right are on
		// their way.
		_, _ = unix.InotifyRmWatch(w.fd, uint32(wd))
		return nil, nil
	}
	n := &node{wd: wd, path: e.path(), parent: e.parent}
	w.byWD[wd] = n
	if e.parent == nil {
		w.root = n
		return n, nil
	}
	if e.parent.children == nil {
		e.parent.children = make(map[string]*node)
	}
	e.parent.children[e.name] = n
	return n, nil
}

// drop gives up the watches of a directory and all below. It does nothing
// without a node.
func (w *inotify) drop(n *node) {
	if n == nil {
		return
	}
	if n.parent != nil && n.parent.children[n.name()] == n {
		delete(n.parent.children, n.name())
	}
	if w.has(n) {
		delete(w.byWD, n.wd)
		// It fails if the kernel was faster.
		_, _ = unix.InotifyRmWatch(w.fd, uint32(n.wd))
	}
	for _, child := range n.children {
		w.drop(child)
	}
}

// open opens the directory at a path below the root for listing, and follows no
// link on the way. It returns nil if there is none, with an error unless that
// is how things are.
func (w *inotify) open(rel string) (*os.File, error) {
	parts := strings.Split(rel, "/")
	if rel == "." {
		parts = nil
	}
	at, err := openDir(unix.AT_FDCWD, w.path, len(parts) > 0, true)
	if err == unix.ENOENT || err == unix.ENOTDIR {
		return nil, fmt.Errorf("%w: %s was moved, removed or unmounted", ErrRootGone, w.path)
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: w.path, Err: err}
	}
	if err := w.isRoot(at); err != nil {
		return nil, err
	}
	for i, part := range parts {
		next, err := openDir(at, part, i < len(parts)-1, false)
		_ = unix.Close(at)
		if err == unix.ENOENT || err == unix.ENOTDIR || err == unix.ELOOP {
			return nil, nil
		}
		if err != nil {
			return nil, &os.PathError{Op: "open", Path: w.path + "/" + rel, Err: err}
		}
		at = next
	}
	// Its name is for the package os, which looks at entries by it.
	return os.NewFile(uintptr(at), fmt.Sprintf("/proc/self/fd/%d", at)), nil
}

// openDir opens a directory, for listing or only to go on from there.
func openDir(at int, name string, through, follow bool) (int, error) {
	flags := unix.O_DIRECTORY | unix.O_CLOEXEC
	if through {
		flags |= unix.O_PATH
	}
	if !follow {
		flags |= unix.O_NOFOLLOW
	}
	for {
		fd, err := unix.Openat(at, name, flags, 0)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// isRoot fails, and closes fd, unless it is the root that was found at first.
// The root is not kept open: it could not be unmounted.
func (w *inotify) isRoot(fd int) error {
	var stat unix.Stat_t
	err := unix.Fstat(fd, &stat)
	if first, ok := w.info.Sys().(*syscall.Stat_t); err == nil && ok && stat.Dev == first.Dev && stat.Ino == first.Ino {
		return nil
	}
	_ = unix.Close(fd)
	return fmt.Errorf("%w: %s is another file than before", ErrRootGone, w.path)
}

// subdirectories calls each for every directory in an open one, a bounded
// number of entries at a time.
func subdirectories(dir *os.File, each func(name string)) error {
	for {
		entries, err := dir.ReadDir(1024)
		for _, e := range entries {
			if e.IsDir() {
				each(e.Name())
			}
		}
		// One that is removed while it is read has no more entries.
		if errors.Is(err, io.EOF) || errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("list a directory: %w", err)
		}
	}
}
