package replica

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"sync"
	"time"
)

// nearFor is how long a directory stays open for what is done next in it. Where
// somebody puts another one in its place, that is seen after this time.
const nearFor = 50 * time.Millisecond

// near is an [os.Root] of which the directory stays open for a while in which
// something was done last. Most of what is done is done there, and os.Root goes
// down to it anew for each. As with os.Root, nothing leads out of the tree; links
// are followed only as far as the directory.
type near struct {
	root *os.Root

	mu    sync.Mutex
	name  string   // of the directory
	dir   *os.Root // nil where none is open
	timer *time.Timer
}

// newNear takes over root.
func newNear(root *os.Root) *near { return &near{root: root} }

// in calls f with the directory that is above name, and with what name is there.
func (n *near) in(name string, f func(dir *os.Root, base string) error) error {
	above, base, below := split(name)
	n.mu.Lock()
	defer n.mu.Unlock()
	if !below {
		n.leave() // it may be that one
		return f(n.root, name)
	}
	if n.dir == nil || n.name != above {
		n.leave()
		// With the dot it is opened as a directory alone: a pipe in its place would have
		// the opening wait for who writes there.
		dir, err := n.root.OpenRoot(path.Clean(above) + "/.")
		if err != nil {
			return f(n.root, name) // which says what is wrong with name
		}
		n.dir, n.name = dir, above
		n.timer = time.AfterFunc(nearFor, func() { n.expire(dir) })
	}
	err := f(n.dir, base)
	switch e := err.(type) { // those of os.Root are not wrapped
	case *fs.PathError:
		e.Path = name
	case *os.LinkError:
		e.New = name
	}
	return err
}

// split separates a name from the directory above it, if there is one.
func split(name string) (above, base string, below bool) {
	above, base = path.Split(name)
	return above, base, above != "" && base != "" && base != "." && base != ".."
}

// expire closes a directory that has been open for long enough.
func (n *near) expire(dir *os.Root) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.dir == dir {
		n.leave()
	}
}

// rest closes the directory that is open, until something is done again.
func (n *near) rest() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.leave()
}

// leave closes the directory that is open. The caller holds the lock.
func (n *near) leave() {
	if n.dir != nil {
		n.timer.Stop()
		_ = n.dir.Close() // nothing was written to it
		n.dir = nil
	}
}

// OpenFile implements tree.
func (n *near) OpenFile(name string, flag int, perm fs.FileMode) (file *os.File, err error) {
	err = n.in(name, func(dir *os.Root, base string) (err error) {
		file, err = dir.OpenFile(base, flag, perm)
		return err
	})
	return file, err
}

// Stat implements tree.
func (n *near) Stat(name string) (info fs.FileInfo, err error) { return n.root.Stat(name) }

// Lstat implements tree.
func (n *near) Lstat(name string) (info fs.FileInfo, err error) {
	err = n.in(name, func(dir *os.Root, base string) (err error) {
		info, err = dir.Lstat(base)
		return err
	})
	return info, err
}

// Readlink implements tree.
func (n *near) Readlink(name string) (target string, err error) {
	err = n.in(name, func(dir *os.Root, base string) (err error) {
		target, err = dir.Readlink(base)
		return err
	})
	return target, err
}

// Mkdir implements tree.
func (n *near) Mkdir(name string, perm fs.FileMode) error {
	return n.in(name, func(dir *os.Root, base string) error { return dir.Mkdir(base, perm) })
}

// Symlink implements tree.
func (n *near) Symlink(target, name string) error {
	return n.in(name, func(dir *os.Root, base string) error { return dir.Symlink(target, base) })
}

// Remove implements tree.
func (n *near) Remove(name string) error {
	return n.in(name, func(dir *os.Root, base string) error { return dir.Remove(base) })
}

// Chmod implements tree.
func (n *near) Chmod(name string, mode fs.FileMode) error {
	return n.in(name, func(dir *os.Root, base string) error { return dir.Chmod(base, mode) })
}

// Lchown implements tree.
func (n *near) Lchown(name string, uid, gid int) error {
	return n.in(name, func(dir *os.Root, base string) error { return dir.Lchown(base, uid, gid) })
}

// Chtimes implements tree.
func (n *near) Chtimes(name string, atime, mtime time.Time) error {
	return n.in(name, func(dir *os.Root, base string) error { return dir.Chtimes(base, atime, mtime) })
}

// Rename implements tree.
func (n *near) Rename(from, to string) error {
	above, base, below := split(from)
	if other, target, ok := split(to); ok && below && above == other {
		err := n.in(from, func(dir *os.Root, name string) error {
			if name == from {
				return dir.Rename(from, to) // it is the root
			}
			return dir.Rename(base, target)
		})
		if e, ok := errors.AsType[*os.LinkError](err); ok {
			e.Old, e.New = from, to
		}
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.leave() // it may be what moves
	return n.root.Rename(from, to)
}

// Link implements tree.
func (n *near) Link(from, to string) error { return n.root.Link(from, to) }

// Close implements tree.
func (n *near) Close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.leave()
	return n.root.Close()
}
