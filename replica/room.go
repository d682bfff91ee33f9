package replica

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// pruneEvery is how often an attic is tidied, if not so much comes that it has to be
// sooner.
const pruneEvery = time.Minute

// leastKept is what a file takes at least, however small it is, so that many small
// ones have their bound, too.
const leastKept = 4096

// prune removes replaced files that are too old, or too many. What cannot be
// removed stays.
func (a *attic) prune() {
	now := time.Now()
	if now.Sub(a.pruned) < pruneEvery && a.added <= a.size/4 {
		return
	}
	a.pruned, a.added = now, 0
	dir := filepath.Join(a.dir, atticReplaced)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return // there is none
	}
	left := a.size
	oldest := now.Add(-a.age).UTC().Format(stampLayout)
	for _, e := range slices.Backward(entries) { // the newest first
		at := filepath.Join(dir, e.Name())
		if e.Name() < oldest || left <= 0 {
			_ = os.RemoveAll(at) // the next time tries again
			continue
		}
		left = fit(at, left)
	}
}

// fit removes the files below a directory for which there is not enough room, and
// returns how much room is left. The directory goes with the last of them.
func fit(dir string, room int64) (left int64) {
	kept, dropped := false, false
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil // what cannot be read does not count
		}
		if size := sizeOf(d); size <= room {
			room, kept = room-size, true
		} else {
			dropped = true
			_ = os.Remove(path) // the next time tries again
		}
		return nil
	})
	if dropped && !kept {
		_ = os.RemoveAll(dir)
	}
	return room
}

// sizeOf returns how much room a file takes.
func sizeOf(d fs.DirEntry) int64 {
	info, err := d.Info()
	if err != nil || !info.Mode().IsRegular() {
		return leastKept
	}
	size := info.Size()
	if _, n := statOf(info); n.file != (fileID{}) {
		size = n.allocated
	}
	return max(size, leastKept)
}

// noRoom is true for errors of a disk that is full.
func noRoom(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// makeRoom gives up, for the next attempt, what a copy for which there is no room
// need not have: what its source has removed, which otherwise goes when all else has
// come, and what is kept of before.
func (r *receiver) makeRoom() {
	t := r.copy
	if r.begun {
		needed := make(map[digest]bool)
		for _, e := range r.m.entries {
			needed[e.digest] = true
		}
		for name, f := range t.local.by {
			_, stays := r.m.find(name)
			if stays || f.kind != kindFile && f.kind != kindSymlink || f.kind == kindFile && (!f.hashed || needed[f.digest]) {
				continue
			}
			if t.keepRemoved(*f) == nil {
				_ = t.remove(name) // the next attempt removes what stays
			}
		}
	}
	if t.attic != nil {
		t.attic.giveWay()
	}
	_ = r.remember(true) // without it the copy remembers something earlier
}

// giveWay removes all that the source replaced, since there is no room for what it
// has now. It reports whether that was anything. Conflicts stay.
func (a *attic) giveWay() bool {
	dir := filepath.Join(a.dir, atticReplaced)
	if entries, err := os.ReadDir(dir); err != nil || len(entries) == 0 {
		return false
	}
	a.log.Warn("the disk is full: what the source of a volume replaced is not kept any longer", "kept", dir)
	return os.RemoveAll(dir) == nil
}

// conflicts lists what was set aside and is still there, the last ones of it, with how
// many there are and how much room they take.
func (a *attic) conflicts() (last []Conflict, count int, bytes int64) {
	dir := filepath.Join(a.dir, atticConflicts)
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil // what cannot be read does not count
		}
		stamp, name, _ := strings.Cut(strings.TrimPrefix(path, dir+string(filepath.Separator)), string(filepath.Separator))
		at, err := time.Parse(stampLayout, stamp)
		if err != nil {
			return nil // it is somebody else's
		}
		count, bytes = count+1, bytes+sizeOf(d)
		last = append(last, Conflict{Path: filepath.ToSlash(name), Kept: path, At: at})
		last = last[max(0, len(last)-mostConflicts):]
		return nil
	})
	return last, count, bytes
}

// keepAside keeps what something else than the source wrote at a path of the copy,
// until there is more of that than a person should find unawares.
func (a *attic) keepAside(copied tree, name string, link bool) (where string, err error) {
	if a.aside > a.size {
		return "", fmt.Errorf("%w: what was set aside of that takes %.1f MiB in %s, and %.1f MiB is the most; take from there what you need, and remove it",
			ErrConflicts, float64(a.aside)/(1<<20), filepath.Join(a.dir, atticConflicts), float64(a.size)/(1<<20))
	}
	where, err = a.keep(copied, atticConflicts, name, link)
	if errors.Is(err, fs.ErrExist) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.EISDIR) {
		a.begin() // something of that path was kept already, in this round
		where, err = a.keep(copied, atticConflicts, name, link)
	}
	if err != nil {
		return "", err
	}
	if info, err := os.Lstat(where); err == nil {
		a.aside += sizeOf(fs.FileInfoToDirEntry(info))
	}
	return where, nil
}
