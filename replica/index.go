package replica

import (
	"cmp"
	"context"
	"maps"
	"os"
	"slices"

	"github.com/budgiehq/budgie/replica/watch"
)

// index is an image of a tree that is kept up to date by looking again at what
// may have changed.
type index struct {
	scanner *scanner
	// root is the tree's directory, and dirs are the entries of each directory
	// by its path, sorted; nil before they are needed.
	root found
	dirs map[string][]*found
	// scanned is what dirs are still to be made of: many a tree is looked at once.
	scanned []*found
	// dirty are directories to be looked at again: their attributes and entries,
	// not what lies deeper, unless it is new.
	dirty map[string]bool
	// stale says that everything is to be looked at again.
	stale bool
}

func newIndex(s *scanner) *index {
	return &index{scanner: s, dirty: make(map[string]bool), stale: true}
}

// mark says that a directory may have changed.
func (x *index) mark(dir string) { x.dirty[dir] = true }

// markAll says that anything may have changed.
func (x *index) markAll() { x.stale = true }

// take marks what a watcher says.
func (x *index) take(b watch.Batch) {
	if b.All {
		x.markAll()
	}
	for _, dir := range b.Dirs {
		if dir == "." {
			dir = ""
		}
		x.mark(dir)
	}
}

// refresh looks at what is marked, and returns the tree, sorted by path, the
// root first. After an error the marks are still there.
func (x *index) refresh(ctx context.Context) ([]*found, error) {
	defer x.scanner.rest()
	if x.stale {
		x.dirs, x.scanned = nil, nil // of no use any more: a large tree is not kept twice
		all, err := x.scanner.scan(ctx)
		if err != nil {
			return nil, err
		}
		x.root, x.scanned = *all[0], all
		clear(x.dirty)
		x.stale = false
		return all, nil
	}
	if x.scanned != nil {
		x.dirs = make(map[string][]*found)
		x.adopt(x.scanned)
		x.scanned = nil
	}
	x.scanner.temporary = nil
	x.scanner.linked = make(map[fileID]hashed)
	dirty := x.dirty
	x.dirty = make(map[string]bool)
	for _, dir := range slices.Sorted(maps.Keys(dirty)) { // parents first: what is new is seen with its parent
		if err := x.list(ctx, dir); x.scanner.passes(err) {
			x.markAll() // its parent has to know
			return x.refresh(ctx)
		} else if err != nil {
			maps.Copy(x.dirty, dirty)
			return nil, err
		}
	}
	if err := x.otherNames(ctx, dirty); x.scanner.passes(err) {
		x.markAll()
		return x.refresh(ctx)
	} else if err != nil {
		maps.Copy(x.dirty, dirty)
		return nil, err
	}
	slices.Sort(x.scanner.skipped)
	return x.flat(), nil
}

// otherNames looks at the directories with other names of files that have
// several: what is done to a file by one name is seen in that one's directory
// alone.
func (x *index) otherNames(ctx context.Context, done map[string]bool) error {
	several := make(map[fileID]bool)
	for _, entries := range x.dirs {
		for _, f := range entries {
			if f.kind == kindFile && f.node.links > 1 {
				several[f.node.file] = true
			}
		}
	}
	if len(several) == 0 {
		return nil
	}
	var again []string
	for dir, entries := range x.dirs {
		if !done[dir] && slices.ContainsFunc(entries, func(f *found) bool { return f.kind == kindFile && several[f.node.file] }) {
			again = append(again, dir)
		}
	}
	slices.Sort(again)
	for _, dir := range again {
		if err := x.list(ctx, dir); err != nil {
			return err
		}
	}
	return nil
}

// adopt takes over what was seen in a directory that was not known, the first of
// all: its own place among its siblings is not meant.
func (x *index) adopt(all []*found) {
	for i, f := range all {
		if f.kind == kindDir {
			x.dirs[f.path] = nil
		}
		if i > 0 { // parents come first
			x.dirs[parent(f.path)] = append(x.dirs[parent(f.path)], f)
		}
	}
	for _, f := range all {
		if f.kind == kindDir {
			slices.SortFunc(x.dirs[f.path], byPath)
		}
	}
}

func byPath(a, b *found) int { return cmp.Compare(a.path, b.path) }

// list looks at a directory and its entries, and at everything in those that
// are new. What is not known as a directory is seen with its parent.
func (x *index) list(ctx context.Context, dir string) error {
	old, known := x.dirs[dir]
	if !known {
		return nil
	}
	f, err := x.scanner.look(ctx, nil, dir)
	if missing(err) && dir != "" || err == nil && f.kind != kindDir {
		x.mark(parent(dir)) // it went after its parent was looked at
		return nil
	}
	if err != nil {
		return err
	}
	open, names, leave, err := x.scanner.enter(f.entry)
	if missing(err) {
		return nil
	} else if err != nil {
		return err
	}
	defer leave()
	if f.xattrs, err = x.scanner.xattrsOf(f.entry, open, ""); err != nil {
		return err
	}
	x.unskip(dir)
	entries := make([]*found, 0, len(names))
	for _, name := range names {
		if entries, err = x.entry(ctx, entries, old, open, x.scanner.below(dir, name)); err != nil {
			return err
		}
	}
	slices.SortFunc(entries, byPath)
	for _, e := range old {
		i, there := slices.BinarySearchFunc(entries, e, byPath)
		if e.kind == kindDir && !(there && entries[i].kind == kindDir) {
			x.forget(e.path)
		}
	}
	x.dirs[dir] = entries
	x.describe(f)
	return nil
}

// entry appends an entry of an open directory that had old ones.
func (x *index) entry(ctx context.Context, entries, old []*found, open *os.File, name string) ([]*found, error) {
	if _, known := x.dirs[name]; known {
		f, err := x.scanner.look(ctx, open, name)
		if err == nil && f.kind == kindDir {
			// Its own content and attributes have its own mark.
			if i, there := slices.BinarySearchFunc(old, &f, byPath); there {
				f.xattrs = old[i].xattrs
			}
			return append(entries, &f), nil
		}
	}
	x.forget(name)
	all, err := x.scanner.visit(ctx, nil, open, name)
	if err != nil || len(all) == 0 {
		return entries, err
	}
	if all[0].kind == kindDir {
		x.adopt(all)
	}
	return append(entries, all[0]), nil
}

// describe notes the attributes of a directory that is known.
func (x *index) describe(f found) {
	if f.path == "" {
		x.root = f
		return
	}
	siblings := x.dirs[parent(f.path)]
	if i, there := slices.BinarySearchFunc(siblings, &f, byPath); there {
		siblings[i] = &f
	}
}

// forget drops a directory's content.
func (x *index) forget(dir string) {
	for _, e := range x.dirs[dir] {
		if e.kind == kindDir {
			x.forget(e.path)
		}
	}
	delete(x.dirs, dir)
	x.unskip(dir)
}

// unskip drops what was passed by in a directory, which is looked at again, or gone.
func (x *index) unskip(dir string) {
	x.scanner.skipped = slices.DeleteFunc(x.scanner.skipped, func(name string) bool { return parent(name) == dir })
}

// flat returns the tree, sorted by path.
func (x *index) flat() []*found {
	root := x.root
	n := 1
	for _, entries := range x.dirs {
		n += len(entries)
	}
	all := append(make([]*found, 0, n), &root)
	for _, entries := range x.dirs {
		all = append(all, entries...)
	}
	slices.SortFunc(all, byPath)
	return all
}
