package replica

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"syscall"
	"time"
)

// attic is a directory beside a copy that keeps what the copy loses:
//
//	replaced/TIME/PATH   what the source replaced or removed, for a while
//	conflicts/TIME/PATH  what something else than the source made or changed in
//	                     the copy, until a person removes it
type attic struct {
	dir string
	// age and size are how long, and how many bytes, replaced files are kept.
	age  time.Duration
	size int64
	// stamp names this round's directories.
	stamp string
	// pruned is when it was last tidied, and added how many bytes came since.
	pruned time.Time
	added  int64
	// aside is how much room conflicts take.
	aside int64
	log   *slog.Logger
}

// The two parts of an attic.
const (
	atticReplaced  = "replaced"
	atticConflicts = "conflicts"
)

// stampLayout sorts by time.
const stampLayout = "20060102T150405.000000000Z"

// begin gives what is kept from now on a directory of its own.
func (a *attic) begin() { a.stamp = time.Now().UTC().Format(stampLayout) }

// place returns the directory in the attic that takes what was at a path, open.
func (a *attic) place(part, name string) (*os.File, string, error) {
	if err := os.MkdirAll(a.dir, 0o700); err != nil {
		return nil, "", err
	}
	root, err := rootOf(a.dir)
	if err != nil {
		return nil, "", err
	}
	defer root.Close()
	dir := path.Join(part, a.stamp, parent(name))
	if err := root.MkdirAll(dir, 0o700); err != nil {
		return nil, "", err
	}
	f, err := openDir(root, dir)
	return f, filepath.Join(a.dir, filepath.FromSlash(path.Join(dir, path.Base(name)))), err
}

// keep moves what is at a path of the copy into the attic, or with link gives it
// another name there. It returns where that is.
func (a *attic) keep(copied tree, part, name string, link bool) (where string, err error) {
	from, err := openDir(copied, parent(name))
	if err != nil {
		return "", err
	}
	defer from.Close()
	to, where, err := a.place(part, name)
	if err != nil {
		return "", fmt.Errorf("keeping %s aside: %w", name, err)
	}
	defer to.Close()
	base := path.Base(name)
	if link {
		err = linkBetween(from, base, to)
	} else {
		err = renameBetween(from, base, to)
	}
	if errors.Is(err, syscall.EXDEV) || link && refusesLink(err) {
		err = a.keepCopy(copied, name, where, link)
	}
	if err != nil {
		return "", &os.LinkError{Op: "keep aside", Old: name, New: where, Err: err}
	}
	return where, nil
}

// refusesLink is true for errors of a file that gets no other name: the file system has
// none, or not one more of this file, or the kernel allows none of somebody else's
// (fs.protected_hardlinks of proc_sys_fs(5)).
func refusesLink(err error) bool {
	return errors.Is(err, fs.ErrPermission) || errors.Is(err, errors.ErrUnsupported) || errors.Is(err, syscall.EMLINK)
}

// keepCopy does the same for what is on another file system than the attic, or gets no
// other name, by copying it.
func (a *attic) keepCopy(copied tree, name, where string, stays bool) error {
	info, err := copied.Lstat(name)
	if err != nil {
		return err
	}
	if info.Mode()&fs.ModeSymlink != 0 {
		target, err := copied.Readlink(name)
		if err == nil {
			err = os.Symlink(target, where)
		}
		if err != nil {
			return err
		}
	} else if err := copyAside(copied, name, info, where); err != nil {
		return err
	}
	if stays {
		return nil
	}
	return copied.Remove(name)
}

// copyAside copies the file that info describes, durably: what it is a copy of may
// be removed next.
func copyAside(copied tree, name string, info fs.FileInfo, where string) error {
	from, err := openRegular(copied, name, info)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.OpenFile(where, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, from)
	err = errors.Join(err, to.Chmod(info.Mode().Perm()), to.Sync(), to.Close(), os.Chtimes(where, time.Time{}, info.ModTime()))
	if err != nil {
		_ = os.Remove(where) // half of it helps nobody
	}
	return err
}

// keepReplaced gives the file that e takes the place of another name in the
// attic, so that there is no moment without one or the other.
func (t *target) keepReplaced(e entry) error {
	f, there := t.local.get(e.path)
	e = t.m.resolve(e)
	if t.attic == nil || !there || f.kind != kindFile && f.kind != kindSymlink {
		return nil
	}
	if t.written(f.path) {
		return t.keepWritten(f.path)
	}
	if sameContent(f.entry, e) && f.hashed {
		return nil
	}
	if err := t.attic.keepOld(t.root, f, true); !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil // it was kept already
}

// keepRemoved moves a file that is to be removed into the attic.
func (t *target) keepRemoved(f found) error {
	if t.attic == nil || f.kind != kindFile && f.kind != kindSymlink {
		return nil
	}
	if err := t.unlockAbove(f.path); err != nil {
		return err
	}
	if t.written(f.path) {
		return t.keepWritten(f.path) // and it is removed by its name here
	}
	return t.attic.keepOld(t.root, f, false)
}

// keepAnew gives what is kept from now on a place of its own: it may have the name of
// what was kept before.
func (t *target) keepAnew() {
	if t.attic != nil {
		t.attic.begin()
	}
}

// keepOld keeps what the source replaced or removed, unless it has gone. Where there
// is no room for that it is not kept: what the source has now would never come.
func (a *attic) keepOld(copied tree, f found, link bool) error {
	_, err := a.keep(copied, atticReplaced, f.path, link)
	if noRoom(err) && a.giveWay() {
		_, err = a.keep(copied, atticReplaced, f.path, link)
	}
	switch {
	case err == nil:
		if a.added += max(f.size, leastKept); a.added > a.size/4 {
			a.prune() // one change may bring any number of them
		}
	case noRoom(err):
		a.log.Warn("the disk is full: what the source of a volume replaced is not kept", "path", f.path, "error", err)
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return nil
	}
	return err
}

// sameContent reports whether two entries are the same but for modes and times.
func sameContent(a, b entry) bool {
	return a.kind == b.kind && a.size == b.size && a.digest == b.digest && a.target == b.target
}
