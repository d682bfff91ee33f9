package replica

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/budgiehq/budgie/replica/internal/delta"
	"github.com/budgiehq/budgie/replica/watch"
)

// source is a volume that is sent, shared by all the Sends of a Copier: what one
// has read the others need not read again.
type source struct {
	dir       string
	log       *slog.Logger
	scanEvery time.Duration
	// openRoot opens the directory: another file system, in tests.
	openRoot func(dir string) (tree, error)
	// lists are the Copier's.
	lists *delta.Memory
	// memory is the file that outlives this value, "" where none does.
	memory string

	// users are the Sends; the Copier's lock guards it.
	users int
	// stop ends the watching.
	stop context.CancelFunc
	ctx  context.Context
	wg   sync.WaitGroup
	once sync.Once

	// looking is held by whoever uses what follows, up to now.
	looking chan struct{}
	root    tree
	index   *index
	first   fingerprint // of the directory as it was first found
	// stored is what memory has, and recalls says that what it had first was read from
	// it. storedLists identifies the chunk lists that are kept. All was last looked after
	// at storedAt.
	stored  *sight
	recalls bool
	// recalledTree is the digest of the tree that was read from it.
	recalledTree digest
	storedLists  digest
	storedAt     time.Time
	// past is what memory was at first; nil where it was not there.
	past *os.File
	// complaint is what was last said of what cannot be copied.
	complaint string

	mu  sync.Mutex
	now *sight // nil before the first look
	// err is why the volume cannot be looked at now; now is then from before.
	err error
	// behind says that the watcher has named something that was not looked at yet.
	behind bool
	// changed is closed when one of them is another.
	changed chan struct{}
}

// sight is a volume as it was seen.
type sight struct {
	all []*found
	// at is when the look began; what was not looked at then was seen before.
	at time.Time
	// temporary are files under way in it: the volume is a copy itself.
	temporary []string
	// skipped are paths that no entry may have.
	skipped []string
}

// acquire returns the source of a directory.
func (c *Copier) acquire(dir string) (s *source, release func(), err error) {
	key, err := filepath.Abs(dir)
	if err != nil {
		return nil, nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s = c.sources[key]
	if s == nil {
		s = &source{dir: key, log: c.log.With("volume", dir), openRoot: openRoot, scanEvery: c.scanEvery, lists: c.lists, memory: c.memoryOf(key), looking: make(chan struct{}, 1), changed: make(chan struct{})}
		s.ctx, s.stop = context.WithCancel(context.Background())
		c.sources[key] = s
	}
	s.users++
	return s, func() {
		c.mu.Lock()
		s.users--
		last := s.users == 0
		if last {
			delete(c.sources, key)
		}
		c.mu.Unlock()
		if last {
			s.close()
		}
	}, nil
}

func (s *source) close() {
	s.stop()
	s.wg.Wait()
	s.remember(s.now, true) // nobody looks any more
	if s.past != nil {
		_ = s.past.Close() // it was only read
	}
	if s.root != nil {
		_ = s.root.Close() // it was only read
	}
}

// check returns an error if there is no directory.
func (s *source) check() error {
	root, err := s.open()
	if err != nil {
		return err
	}
	return root.Close()
}

// list looks at everything, and returns what there is.
func (s *source) list(ctx context.Context) (*sight, error) {
	return s.update(ctx, func(x *index) { x.markAll() })
}

// listAnew does so, and reads all files again.
func (s *source) listAnew(ctx context.Context) (*sight, error) {
	return s.update(ctx, func(x *index) {
		x.markAll()
		clear(x.scanner.known)
	})
}

// update looks at what mark says that may have changed.
func (s *source) update(ctx context.Context, mark func(*index)) (*sight, error) {
	select {
	case s.looking <- struct{}{}:
		defer func() { <-s.looking }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	next, err := s.look(ctx, mark)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	now, err := s.take(next, err)
	if err == nil {
		s.remember(now, false)
	}
	return now, err
}

// take notes what was seen, or why nothing was.
func (s *source) take(next *sight, err error) (*sight, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.err
	s.err = err
	switch {
	case err != nil:
		if was == nil || was.Error() != err.Error() {
			s.tell()
		}
		return nil, err
	case s.now != nil && slices.EqualFunc(s.now.all, next.all, sameFound) && slices.Equal(s.now.skipped, next.skipped):
		if was != nil {
			s.tell()
		}
	default:
		s.now = next
		s.tell()
	}
	return s.now, nil
}

// sameFound compares what was seen.
func sameFound(a, b *found) bool { return a == b || *a == *b }

// tell wakes who waits for changes. The caller holds the lock.
func (s *source) tell() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// look does the work of update.
func (s *source) look(ctx context.Context, mark func(*index)) (*sight, error) {
	if err := s.reopen(); err != nil {
		return nil, err
	}
	mark(s.index)
	begin := time.Now()
	all, err := s.index.refresh(ctx)
	if err != nil {
		return nil, err
	}
	next := &sight{all: all, at: begin, skipped: slices.Clone(s.index.scanner.skipped)}
	s.complain(next)
	for _, f := range s.index.scanner.temporary {
		next.temporary = append(next.temporary, f.path)
	}
	return next, nil
}

// reopen sees to it that root is what the path leads to.
func (s *source) reopen() error {
	info, err := os.Stat(s.dir)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrGone, err)
	}
	now, known := fingerprintOf(info)
	if s.root != nil {
		if was, err := s.root.Stat("."); err == nil && os.SameFile(was, info) {
			return nil
		}
		if known && now.dev != s.first.dev {
			return fmt.Errorf("%w: %s is on another file system than before: something was mounted or unmounted there; undo that, or start the container anew",
				ErrGone, s.dir)
		}
	}
	root, err := s.open()
	if err != nil {
		return err
	}
	var memory map[string]*hashed
	if s.root != nil {
		_ = s.root.Close() // it was only read
		memory = s.index.scanner.known
	} else {
		memory = s.recalled()
	}
	s.root, s.first = root, now
	s.index = newIndex(&scanner{root: root, known: memory, keeps: keepAll, lists: s.lists, lenient: true})
	return nil
}

// open opens the directory as it is now, for reading files.
func (s *source) open() (tree, error) { return s.openRoot(s.dir) }

// doubt has files looked at, and read, anew: they could not be read, whatever is known
// of them.
func (s *source) doubt(ctx context.Context, paths []string) error {
	_, err := s.update(ctx, func(x *index) {
		for _, name := range paths {
			delete(x.scanner.known, name)
			x.mark(parent(name))
		}
	})
	return err
}

// errBehind says that something of a source changed and was not looked at yet: a large
// file takes a while to be read.
var errBehind = errors.New("not all that changed was looked at")

// current returns what was last seen, and what is closed when that is something
// else. The error is why it may be out of date.
func (s *source) current() (*sight, <-chan struct{}, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil && s.behind {
		return s.now, s.changed, errBehind
	}
	return s.now, s.changed, s.err
}

// setBehind notes whether there is something to be looked at.
func (s *source) setBehind(is bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.behind = is
}

// watch keeps what is seen up to date from now on, until close.
func (s *source) watch() {
	s.once.Do(func() {
		s.setBehind(true) // what changed since it was looked at nobody has seen
		s.wg.Go(func() {
			for s.ctx.Err() == nil {
				if w, err := watch.New(s.dir); err == nil {
					s.keepUp(w)
					_ = w.Close() // it returns nil
				} else {
					_, err = s.list(s.ctx) // finds out, and tells, why
					s.setBehind(err != nil)
					pause(s.ctx, sourceRetry)
				}
			}
		})
	})
}

// sourceRetry is how long to wait before a volume that could not be looked at is
// looked at again.
const sourceRetry = time.Second

// keepUp follows the volume by a watcher, as long as that watches what the path
// leads to.
func (s *source) keepUp(w watch.Watcher) {
	scans := fullScans{every: s.scanEvery}
	var waiting []watch.Batch // one at most
	scan := func() error {
		scans.begin()
		defer scans.end()
		return s.lookBeside(w, &waiting, func(x *index) { x.markAll() })
	}
	err := scan()
	limit := newComplaint(s.log)
	for s.ctx.Err() == nil {
		if waiting == nil {
			var again <-chan time.Time
			if err != nil {
				again = time.After(sourceRetry)
			}
			select {
			case <-s.ctx.Done():
				return
			case b := <-w.Changes():
				waiting = []watch.Batch{b}
				s.setBehind(true)
			case <-time.After(scans.wait()):
			case <-again:
			}
		}
		if waiting == nil || scans.wait() == 0 {
			err = scan()
			continue
		}
		b := waiting[0]
		waiting = nil
		limit.take(b)
		scans.take(b)
		err = s.lookBeside(w, &waiting, func(x *index) { x.take(b) })
		if err == nil && errors.Is(b.Reason, watch.ErrRootGone) {
			s.setBehind(true)
			return // there is a directory again, and it needs another watcher
		}
	}
}

// lookBeside looks at what mark says, and waits meanwhile for what else the watcher names:
// one batch, which shows that the source is behind, is enough.
func (s *source) lookBeside(w watch.Watcher, waiting *[]watch.Batch, mark func(*index)) error {
	done := make(chan error, 1)
	go func() {
		_, err := s.update(s.ctx, mark)
		done <- err
	}()
	for {
		changes := w.Changes()
		if *waiting != nil {
			changes = nil
		}
		select {
		case b := <-changes:
			*waiting = []watch.Batch{b}
			s.setBehind(true)
		case err := <-done:
			s.setBehind(err != nil || *waiting != nil)
			return err
		}
	}
}

// complaint tells the log why a tree is not watched, once for each reason.
type complaint struct {
	log    *slog.Logger
	reason string
}

func newComplaint(log *slog.Logger) *complaint { return &complaint{log: log} }

func (c *complaint) take(b watch.Batch) {
	reason := ""
	if b.Reason != nil {
		reason = b.Reason.Error()
	}
	if reason != "" && reason != c.reason {
		c.log.Warn("what changed in a volume is found by looking at all of it, until it can be watched", "reason", reason)
	}
	if reason != "" || b.All {
		c.reason = reason
	}
}

// pause waits for d, or the end of ctx.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
