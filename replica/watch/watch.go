// Package watch says which directories below a root may have changed, for
// whoever keeps an image of the tree and looks again at what is named.
//
// [New] returns once the whole tree is watched: what changes from then on is
// reported, so a scan that begins after New misses nothing. A change makes its
// directory dirty. Dirty directories are collected until the tree has been
// quiet for a moment, or has not been for too long, and come as one [Batch].
// A batch is a hint: a directory that is named need not have changed, several
// changes come as one, in no order. What a receiver finds when it looks is at
// least as new as what made the directory dirty, and what changes after that is
// reported again.
//
// A directory is named when its entries, their content or their attributes may
// have changed, or its own attributes. What lies deeper is not meant. Of a
// directory that is new below the root, or was moved there, every directory
// inside is named too, after it or with it. So a receiver has the tree that
// lists the named directories in the order in which they come, each by itself,
// and forgets what lies below those that are gone. It should pass over those
// that are none by its listing of their parent: they may have moved, and their
// path may lead through a symbolic link by now.
//
// Where a watcher cannot say what changed it says "everything": after an
// overflow of the kernel's queue, with more dirty directories than it may
// remember, and, again and again, for as long as it cannot watch at all
// ([LimitError], [ErrRootGone]). It goes on trying, and says when it has
// succeeded.
//
// Symbolic links are entries like others, never followed; the root alone may be
// one. Not seen are changes that the kernel does not report: writes through a
// memory map (until it is unmapped), through another name of a hard link (the
// directory of the name that was used is named; where the name has gone again
// meanwhile, [Batch].Passed says so on Linux), through another bind mount's
// path, by other machines on a network file system, and file systems being
// mounted below the root. A full scan now and then is still needed.
//
// On Linux New uses inotify, and needs /proc. A directory that may not be read
// is not watched until its permissions change. On other systems it takes what
// they tell for hints, and reports everything in each fallback interval too:
// what they do not tell, such as changed permissions, comes with that.
package watch

import (
	"errors"
	"fmt"
	"os"
)

// Batch is what may have changed since the batch before.
type Batch struct {
	// Dirs are the dirty directories, sorted, relative to the root and with
	// slashes; "." is the root. Names are the bytes that the system has. Nil
	// if All is set.
	Dirs []string
	// Passed says that a file may have changed below a directory that was not named:
	// something came and went before anybody can have seen whether it was another name
	// of that file, or led to one. A scan before long is needed. False if All is set.
	Passed bool
	// All says that anything may have changed.
	All bool
	// Reason says why All is set: [ErrOverflow], [ErrTooMany], [ErrRootGone], a
	// [*LimitError] or another failure to watch. ErrOverflow and ErrTooMany
	// are over with the scan. The others last, and are repeated, until a batch
	// with All and without a Reason says that the tree is watched again. Nil if
	// All is not set.
	Reason error
}

// Watcher reports changes of a tree. Its methods may be called from several
// goroutines.
type Watcher interface {
	// Changes returns the channel, always the same one, on which batches come
	// for one receiver. Whoever does not receive holds up nothing: what happens
	// meanwhile is in the next batches, of bounded size. Close closes it.
	Changes() <-chan Batch
	// Close ends the watcher and returns after the last of its goroutines has
	// ended. Batches that were not received are lost. Further calls do nothing.
	// It returns nil.
	Close() error
}

// Reasons for batches that name no directories.
var (
	// ErrOverflow: more happened at once than the kernel's queue holds.
	ErrOverflow = errors.New("more changes at once than the kernel's queue holds")
	// ErrTooMany: more directories are dirty than the watcher may remember (see
	// [WithMaxDirs]).
	ErrTooMany = errors.New("more directories changed than are remembered by name")
	// ErrRootGone: the root was moved, removed, unmounted or replaced. What its
	// path leads to now, if anything, is not what was watched.
	ErrRootGone = errors.New("the watched directory is gone")
)

// LimitError says that the kernel grants no more watches. The watcher then
// holds none, reports everything in intervals (see [WithFallback]), and tries
// again now and then.
type LimitError struct {
	// Setting is the kernel's setting that stands in the way, such as
	// fs.inotify.max_user_watches.
	Setting string
	// Value is the setting's value, in watches or instances; 0 if it could not
	// be read.
	Value int
	// Needed is the least value with which the tree could be watched as it is
	// now, beside all else that the user watches.
	Needed int
	// Err is the system's error.
	Err error
}

// Error names the setting, its value and the value needed.
func (e *LimitError) Error() string {
	return fmt.Sprintf("the limit %s = %d is reached: at least %d is needed (sysctl -w %s=%d): %v", e.Setting, e.Value, e.Needed, e.Setting, e.Needed, e.Err)
}

// Unwrap returns the system's error.
func (e *LimitError) Unwrap() error { return e.Err }

// rootIs fails with ErrRootGone unless path leads to the directory that info
// describes.
func rootIs(path string, info os.FileInfo) error {
	now, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("%w: %s was moved, removed or unmounted", ErrRootGone, path)
	case err != nil:
		return fmt.Errorf("%w: %w", ErrRootGone, err)
	case !now.IsDir() || !os.SameFile(now, info):
		return fmt.Errorf("%w: %s is another file than before", ErrRootGone, path)
	}
	return nil
}

// statRoot describes the directory at path.
func statRoot(path string) (os.FileInfo, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRootGone, err)
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("%w: %s is not a directory", ErrRootGone, path)
	}
	return info, nil
}
