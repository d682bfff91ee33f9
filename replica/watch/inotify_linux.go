package watch

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// New watches the tree below the directory root until Close. It fails only if
// root cannot be resolved or is no directory; where the tree is there but
// cannot be watched, batches say so.
func New(root string, opts ...Option) (Watcher, error) {
	return newInotify(root, newConfig(opts), system)
}

// kernel are the system calls that run into limits.
type kernel struct {
	init func(flags int) (int, error)
	add  func(fd int, path string, mask uint32) (int, error)
}

// system are those of the machine.
var system = kernel{unix.InotifyInit1, unix.InotifyAddWatch}

func newInotify(root string, c config, k kernel) (Watcher, error) {
	path, err := filepath.Abs(root)
	if err != nil {
		return nil, fmt.Errorf("watch %s: %w", root, err)
	}
	out := newCoalescer(c)
	w, err := newWatcher(c, out, &inotify{path: path, dirty: out.dirty, passing: newPassing(out), kernel: k}, false)
	if err != nil {
		return nil, fmt.Errorf("watch %s: %w", root, err)
	}
	return w, nil
}

// watchMask is what makes a directory dirty. IN_MODIFY is in it for files that
// stay open for long.
const watchMask = unix.IN_CREATE | unix.IN_DELETE | unix.IN_MOVED_FROM | unix.IN_MOVED_TO |
	unix.IN_MODIFY | unix.IN_CLOSE_WRITE | unix.IN_ATTRIB |
	unix.IN_DELETE_SELF | unix.IN_MOVE_SELF | unix.IN_ONLYDIR | unix.IN_EXCL_UNLINK

// inotify is the backend of Linux: one inotify instance with a watch for each
// directory.
//
// An event about a directory's name makes it look at what the name leads to
// now, not trust the event: the queue is in order, so whatever the name stands
// for at the end, a look comes after it.
type inotify struct {
	path    string
	dirty   func(dir string)
	passing *passing
	kernel  kernel

	info os.FileInfo // of the root
	file *os.File    // the instance; nil while nothing is watched
	fd   int         // of file, whose method Fd would make it blocking
	wg   sync.WaitGroup
	quit chan struct{}
	read chan chunk

	root *node
	byWD map[int]*node
}

// node is a watched directory. Its path does not change: a directory that moves
// gets new nodes, for itself and all below.
type node struct {
	wd       int
	path     string // relative, "." for the root
	parent   *node  // nil for the root
	children map[string]*node
}

// name returns the last element of the path.
func (n *node) name() string { return n.path[strings.LastIndexByte(n.path, '/')+1:] }

// join returns the path of an entry.
func (n *node) join(name string) string {
	if n.parent == nil {
		return name
	}
	return n.path + "/" + name
}

// chunk is what one read of the instance gave.
type chunk struct {
	data []byte
	err  error
}

func (w *inotify) start() error {
	w.stop()
	info, err := statRoot(w.path)
	if err != nil {
		return err
	}
	fd, err := w.kernel.init(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return instanceError(err)
	}
	w.info, w.byWD, w.root = info, make(map[int]*node), nil
	w.fd, w.file = fd, os.NewFile(uintptr(fd), "inotify")
	if err := w.walk(entry{}, false); err != nil {
		w.stop()
		return err
	}
	w.quit, w.read = make(chan struct{}), make(chan chunk)
	w.wg.Go(func() { relay(w.file, w.read, w.quit) })
	return nil
}

func (w *inotify) stop() {
	if w.file == nil {
		return
	}
	if w.quit != nil {
		close(w.quit)
	}
	_ = w.file.Close()
	w.wg.Wait()
	w.file, w.quit, w.read, w.root, w.byWD = nil, nil, nil, nil, nil
}

func (w *inotify) check() error { return rootIs(w.path, w.info) }

func (w *inotify) events() <-chan chunk { return w.read }

// relay reads until the file is closed or fails. What it has not read stays in
// the kernel's queue, which is bounded.
func relay(file *os.File, to chan<- chunk, quit <-chan struct{}) {
	buf := make([]byte, 64<<10)
	for {
		n, err := file.Read(buf)
		if errors.Is(err, os.ErrClosed) {
			return
		}
		select {
		case to <- chunk{append([]byte(nil), buf[:max(n, 0)]...), err}:
		case <-quit:
			return
		}
		if err != nil {
			return
		}
	}
}

func (w *inotify) handle(c chunk) error {
	for data := c.data; len(data) >= unix.SizeofInotifyEvent; {
		wd := int(int32(binary.NativeEndian.Uint32(data)))
		mask, cookie := binary.NativeEndian.Uint32(data[4:]), binary.NativeEndian.Uint32(data[8:])
		end := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(data[12:]))
		name, _, _ := strings.Cut(string(data[unix.SizeofInotifyEvent:end]), "\x00")
		data = data[end:]
		if mask&unix.IN_Q_OVERFLOW != 0 {
			return ErrOverflow
		}
		// Others are of watches that were given up.
		if n := w.byWD[wd]; n != nil {
			if name != "" {
				w.passing.event(mask, cookie, n.join(name))
			}
			if err := w.event(n, mask, name); err != nil {
				return err
			}
		}
	}
	w.passing.settle()
	if c.err != nil {
		return fmt.Errorf("read inotify events: %w", c.err)
	}
	return nil
}

// event does what an event of a watched directory asks for.
func (w *inotify) event(n *node, mask uint32, name string) error {
	if n.parent == nil && mask&(unix.IN_DELETE_SELF|unix.IN_MOVE_SELF|unix.IN_UNMOUNT|unix.IN_IGNORED) != 0 {
		if err := rootIs(w.path, w.info); err != nil {
			return err
		}
		return fmt.Errorf("%w: %s was moved, removed or unmounted for a moment", ErrRootGone, w.path)
	}
	w.mark(n.path)
	switch {
	case mask&unix.IN_UNMOUNT != 0:
		// What was below the mount point is there now.
		w.mark(n.parent.path)
		w.drop(n)
		return w.walk(entry{n.parent, n.name()}, false)
	case mask&(unix.IN_DELETE_SELF|unix.IN_IGNORED) != 0:
		w.drop(n)
	case name == "" && n.parent == nil:
		// Its link count changes when it is removed, even while it is still in use.
		return rootIs(w.path, w.info)
	case name == "" || mask&unix.IN_ISDIR == 0:
	case mask&unix.IN_MOVED_TO != 0:
		// While it was away nothing new in it was found by its path.
		w.drop(n.children[name])
		return w.walk(entry{n, name}, false)
	case mask&unix.IN_ATTRIB != 0:
		w.mark(n.join(name))
		if n.children[name] == nil {
			return w.walk(entry{n, name}, true)
		}
	case mask&(unix.IN_CREATE|unix.IN_DELETE|unix.IN_MOVED_FROM) != 0:
		return w.walk(entry{n, name}, true)
	}
	return nil
}
