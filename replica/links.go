package replica

import (
	"context"
	"fmt"
	"path"
)

// Hard links. Of the names of a file the first one, bytewise, stands in the
// manifest for the file, the others point to it. In a copy, names are brought
// together and apart when all content is in place: nothing is ever sent for
// that.

// listing is the manifest of what was found, without what the receiver cannot
// keep.
func listing(all []*found, receiver ability) (*manifest, leftOut, error) {
	var left leftOut
	m := &manifest{keeps: receiver.keeps, entries: make([]entry, 0, len(all))}
	err := eachEntry(all, receiver, func(e entry, missed keeps) error {
		left.add(missed, e.path)
		return m.add(e)
	})
	if err != nil {
		return nil, leftOut{}, err
	}
	return m, left, nil
}

// eachEntry calls do for each entry of a listing, with what the receiver cannot keep
// of it.
func eachEntry(all []*found, receiver ability, do func(e entry, missed keeps) error) error {
	names := make(map[fileID]string)
	for _, f := range all {
		first, other := "", false
		if f.kind == kindFile && f.node.links > 1 {
			if first, other = names[f.node.file]; !other {
				names[f.node.file] = f.path
			}
		}
		e := f.entry.only(receiver.keeps)
		missed := f.needs() &^ e.needs()
		if e.owner != f.owner && f.owner == receiver.owner {
			missed &^= keepOwners // it will have it all the same
		}
		switch {
		case other && receiver.keeps&keepHardLinks != 0:
			e, missed = entry{path: f.path, kind: kindHardLink, target: first}, 0
		case other:
			missed |= keepHardLinks
		}
		if err := do(e, missed); err != nil {
			return err
		}
	}
	return nil
}

// groups returns the first name of each other name of a file.
func (m *manifest) groups() map[string]string {
	first := make(map[string]string)
	for _, e := range m.entries {
		if e.kind == kindHardLink {
			first[e.path] = e.target
		}
	}
	return first
}

// settleLinks gives every file of m, all of whose content is in place, the names
// that it has in m and no others, not even outside the copy: what is done to the
// file would be done there, too.
func (t *target) settleLinks(ctx context.Context, m *manifest) error {
	taken := make(map[fileID]bool)
	for _, e := range m.entries {
		if e.kind != kindFile {
			continue
		}
		f, err := t.identify(e.path)
		if err != nil {
			return err
		}
		if f.node.links < 2 {
			continue
		}
		outside := f.node.links > t.inside[f.node.file]
		if taken[f.node.file] || outside && !f.is(e) {
			if err := t.separate(ctx, e); err != nil {
				return fmt.Errorf("separating %s from its other names: %w", e.path, err)
			}
			continue
		}
		taken[f.node.file] = true
	}
	for _, e := range m.entries {
		if e.kind != kindHardLink {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := t.join(e); err != nil {
			return fmt.Errorf("linking %s to %s: %w", e.path, e.target, err)
		}
	}
	return nil
}

// countNames notes how many names in the copy each file has that has several.
func (t *target) countNames(all []*found) {
	t.inside = make(map[fileID]uint64)
	count := func(f *found) {
		if f.node.links > 1 && f.kind == kindFile {
			t.inside[f.node.file]++
		}
	}
	for _, f := range all {
		count(f)
	}
	for i := range t.scanner.temporary {
		count(&t.scanner.temporary[i])
	}
}

// is reports whether a file that was found is as e says, content apart.
func (f found) is(e entry) bool {
	return f.mode == e.mode && f.mtime == e.mtime && f.owner == e.owner && f.xattrs == e.xattrs
}

// identify returns what is at path, with the file that it is.
func (t *target) identify(path string) (found, error) {
	f := t.local.at(path)
	if f.node == (node{}) {
		info, err := t.root.Lstat(path)
		if err != nil {
			return found{}, err
		}
		_, f.node = statOf(info)
		t.local.put(path, f)
	}
	return f, nil
}

// separate gives e a file of its own, by copying it.
func (t *target) separate(ctx context.Context, e entry) error {
	c, err := t.copyOne(ctx, e.path, e)
	if gone(err) {
		return fmt.Errorf("%w: somebody else changed it: %w", ErrVerify, err)
	} else if err != nil {
		return err
	}
	defer c.discard()
	if err := c.sync(); err != nil {
		return err
	}
	return c.place()
}

// borrow makes a file for e, which is in the copy under another of its names, by
// giving it one more. It is dressed in the end, with all of its names.
func (t *target) borrow(from string, e entry) (*incoming, error) {
	dir, err := t.stage(e.path)
	if err != nil {
		return nil, err
	}
	name, err := t.link(from, dir)
	if err != nil {
		return nil, err
	}
	return &incoming{target: t, entry: e, name: name}, nil
}

// join makes e a name of its target.
func (t *target) join(e entry) error {
	to, err := t.identify(e.target)
	if err != nil {
		return err
	}
	if f, ok := t.local.get(e.path); ok && f.kind == kindFile && f.node.file == to.node.file {
		return nil
	}
	if err := t.unlockAbove(e.path); err != nil {
		return err
	}
	name, err := t.link(e.target, parent(e.path))
	if err != nil {
		return err
	}
	if err := t.rename(name, e); err != nil {
		return err
	}
	to.path = e.path
	t.local.put(e.path, to)
	return nil
}

// link makes a temporary name for the file at path.
func (t *target) link(of, dir string) (name string, err error) {
	if err := t.unlockAbove(of); err != nil {
		return "", err
	}
	name = path.Join(dir, temporaryName())
	if err := t.root.Link(of, name); err != nil {
		return "", err
	}
	t.temporary[name] = true
	t.renamedIn(dir)
	return name, nil
}
