package replica

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"
)

// Conflict is something in a copy that its source did not bring there.
type Conflict struct {
	// Path is relative to the volume, with slashes.
	Path string
	// Kept is the file where what was found there is kept; empty where it had
	// been removed, and the source's was put there again.
	Kept string
	// At is when it was found.
	At time.Time
}

// setAside moves what something else than the source made or changed in the copy
// into the attic, and forgets it.
func (r *receiver) setAside() error {
	r.copy.keepAnew()
	if r.base == nil || r.copy.attic == nil {
		return nil
	}
	strange, lost := r.strange(r.base, r.m)
	for _, name := range strange {
		if err := r.copy.unlockAbove(name); err != nil {
			return err
		}
		where, err := r.copy.attic.keepAside(r.copy.root, name, false)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return err
		}
		r.copy.forget(name)
		r.note(Conflict{Path: name, Kept: where, At: time.Now()})
	}
	for _, name := range lost {
		r.note(Conflict{Path: name, At: time.Now()})
	}
	return r.copy.syncDirs()
}

// strange returns the paths where the copy has neither what it had nor what it is
// to have, and those that are to be as they were, and are missing.
func (r *receiver) strange(was, will *manifest) (strange, lost []string) {
	for name, f := range r.copy.local.by {
		if f.kind != kindFile && f.kind != kindSymlink {
			continue
		}
		content, known := f.digest, f.hashed
		if f.kind == kindSymlink {
			content, known = linkDigest(f.target), true
		}
		if known && (r.ours[content] || sameContent(f.entry, was.file(name)) || sameContent(f.entry, will.file(name)) || sameContent(f.entry, r.unseen[name])) {
			continue
		}
		strange = append(strange, name)
	}
	slices.Sort(strange)
	if r.unfinished {
		return strange, nil // it may have been removed by the change that was cut off
	}
	look := func(name string, e entry) {
		if _, there := r.copy.local.get(name); !there && (e.kind == kindFile || e.kind == kindSymlink) && sameContent(e, will.file(name)) {
			lost = append(lost, name)
		}
	}
	for _, e := range was.entries {
		look(e.path, was.resolve(e))
	}
	for name, e := range r.unseen {
		look(name, e)
	}
	slices.Sort(lost)
	return strange, lost
}

func (r *receiver) note(c Conflict) {
	r.conflicts = append(r.conflicts, c)
	if f := r.following; f != nil {
		f.state.ConflictCount++
		r.conflicts = r.conflicts[max(0, len(r.conflicts)-mostConflicts):]
		last := append(slices.Clone(f.state.Conflicts), c)
		f.state.Conflicts = last[max(0, len(last)-mostConflicts):]
	}
	r.log.Warn("a copy of a volume was changed by something else than its source", "path", c.Path, "kept", c.Kept)
}

// file returns the entry at a path, or the file itself for another name of one, and
// the zero value where there is none.
func (m *manifest) file(path string) entry {
	e, _ := m.find(path)
	return m.resolve(e)
}

// resolve returns the file for another name of it, and every other entry as it is.
func (m *manifest) resolve(e entry) entry {
	if e.kind == kindHardLink {
		e, _ = m.find(e.target)
	}
	return e
}

// forget drops what is no longer at a path.
func (t *target) forget(name string) {
	f := t.local.at(name)
	t.local.drop(name)
	delete(t.seen, name)
	if t.content[f.digest] == name {
		delete(t.content, f.digest)
	}
	t.renamedIn(parent(name))
}

// hold returns an error where the copy had better stay as it is: the source may
// have been emptied or unmounted by mistake.
func (r *receiver) hold() error {
	if r.following.accepts(r.m) {
		r.following.losses = losses{} // they are meant
		return nil
	}
	var before []entry
	had := len(r.copy.local.by)
	if r.base != nil {
		before = r.before()
		had = len(before) // what something else wrote there is none of the source's
	}
	if len(r.m.entries) == 1 && had > 1 { // the directory itself is one
		return ErrEmptied
	}
	if r.base == nil || r.following == nil {
		return nil
	}
	limit := r.following.maxLoss
	there, gone := lossOf(before, r.m)
	if limit > 0 && float64(gone) > limit*float64(there) {
		return fmt.Errorf("%w: %d of %d", ErrLoss, gone, there)
	}
	l := &r.following.losses
	l.add(time.Now(), countNamed(before))
	if had, fewer := l.with(gone, countNamed(r.m.entries)); gone > 0 && limit > 0 && float64(fewer) > limit*float64(had) {
		return fmt.Errorf("%w: %d of %d, within some minutes", ErrLoss, fewer, had)
	}
	l.lose(gone)
	return nil
}

// before returns what the copy has of what it had when it was last complete, or all
// that it has where that is not known.
func (r *receiver) before() []entry {
	var all []entry
	if r.forgot {
		for _, f := range r.copy.local.by {
			all = append(all, f.entry)
		}
		return all
	}
	for _, e := range r.base.entries {
		if _, there := r.copy.local.get(e.path); there {
			all = append(all, e)
		}
	}
	for name, e := range r.unseen {
		if f, there := r.copy.local.get(name); there && f.kind != kindUnread {
			all = append(all, e)
		}
	}
	return all
}

// lossOf counts the files and links of a volume, and those of them whose content
// another one has nowhere.
func lossOf(before []entry, after *manifest) (there, gone int) {
	content := make(map[digest]bool)
	paths := make(map[string]bool)
	of := func(e entry) digest {
		if e.kind == kindSymlink {
			return linkDigest(e.target)
		}
		return e.digest
	}
	for _, e := range after.entries {
		paths[e.path] = true
		if e.kind == kindFile || e.kind == kindSymlink {
			content[of(e)] = true
		}
	}
	for _, e := range before {
		if e.kind != kindFile && e.kind != kindSymlink {
			continue
		}
		there++
		if !paths[e.path] && !content[of(e)] {
			gone++
		}
	}
	return there, gone
}
