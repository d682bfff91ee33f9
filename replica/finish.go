package replica

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"syscall"
)

// finish makes the tree equal to m, all of whose files are in place or staged:
// it removes what does not belong, makes directories and links, and sets modes
// and times. It returns how many entries it removed.
func (t *target) finish(ctx context.Context, m *manifest) (removed int, err error) {
	if err := t.syncDirs(); err != nil {
		return 0, err
	}
	// What is in a directory that was touched is read by verify, and not twice.
	t.scanner.wants = func(path string, _ int64) bool { return t.live && !t.touched[parent(path)] }
	all, err := t.look(ctx)
	if err != nil {
		return 0, err
	}
	respelled, err := t.checkNames(ctx)
	if err == nil && respelled {
		all, err = t.look(ctx)
	}
	if err != nil {
		return 0, err
	}
	if removed, err = t.removeAllExtra(ctx, all, m); err != nil {
		return 0, err
	}
	for _, e := range m.entries {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		if err := t.settle(e); err != nil {
			return 0, fmt.Errorf("completing %s: %w", e.path, err)
		}
	}
	if err := t.settleLinks(ctx, m); err != nil {
		return 0, err
	}
	for _, e := range m.entries {
		if e.kind != kindFile {
			continue
		}
		if err := t.settleFile(e); err != nil {
			return 0, fmt.Errorf("completing %s: %w", e.path, err)
		}
	}
	if err := t.syncDirs(); err != nil {
		return 0, err
	}
	// Children first: a directory's mode may forbid to reach them.
	for _, e := range slices.Backward(m.entries) {
		if e.kind != kindDir {
			continue
		}
		f := t.local.at(e.path)
		if !t.touched[e.path] && f.is(e) {
			continue
		}
		if err := t.redress(e, f); err != nil {
			return 0, fmt.Errorf("completing %s: %w", e.path, err)
		}
	}
	return removed, nil
}

// look lists the tree anew.
func (t *target) look(ctx context.Context) ([]*found, error) {
	clear(t.local.by) // a large tree is not kept twice
	t.looked = nil
	all, err := t.list(ctx)
	if err != nil {
		return nil, err
	}
	all = t.m.veil(all)
	for _, f := range all {
		t.local.by[f.path] = f
	}
	return all, nil
}

// mostRemovals is how often a copy is cleared, where its own user, or container, makes
// files in directories that are about to go.
const mostRemovals = 100

// removeAllExtra removes what is extra of all that was found, and what came into a
// directory that was about to go.
func (t *target) removeAllExtra(ctx context.Context, all []*found, m *manifest) (removed int, err error) {
	for range mostRemovals {
		t.countNames(all)
		n, err := t.removeExtra(all, m)
		removed += n
		if !errors.Is(err, syscall.ENOTEMPTY) {
			return removed, err
		}
		t.keepAnew()
		if all, err = t.look(ctx); err != nil {
			return removed, err
		}
	}
	return removed, fmt.Errorf("%w: in a directory of the copy that the source does not have something makes files again and again", ErrConflicts)
}

// removeExtra removes what is not in m, or is a directory on one side and
// something else on the other.
func (t *target) removeExtra(all []*found, m *manifest) (removed int, err error) {
	wanted := make(map[string]kind, len(m.entries))
	for _, e := range m.entries {
		wanted[e.path] = e.kind
	}
	staged := make(map[string]bool, len(t.staged))
	for _, name := range t.staged {
		staged[name] = true
	}
	for _, f := range t.scanner.temporary {
		if staged[f.path] {
			continue
		}
		if err := t.remove(f.path); err != nil {
			return removed, err
		}
	}
	// Backwards, so that directories are empty when their turn comes.
	for _, f := range slices.Backward(all) {
		want, ok := wanted[f.path]
		if ok && (f.kind == kindDir) == (want == kindDir) && (want != kindSpecial || f.kind == kindSpecial) {
			continue
		}
		if !ok && f.kind == kindSpecial && wanted[parent(f.path)] == kindDir {
			continue // a socket of the copy's own user
		}
		if err := t.keepRemoved(*f); err != nil {
			return removed, err
		}
		if err := t.remove(f.path); err != nil {
			return removed, err
		}
		t.local.drop(f.path)
		delete(t.dirty, f.path)
		removed++
	}
	return removed, nil
}

func (t *target) remove(name string) error {
	if err := t.unlockAbove(name); err != nil {
		return err
	}
	if err := t.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	t.renamedIn(parent(name))
	return nil
}

// unlockAbove lets the owner work in all directories above name.
func (t *target) unlockAbove(name string) error {
	if err := t.unlock(""); err != nil {
		return err
	}
	for i, c := range name {
		if c == '/' {
			if err := t.unlock(name[:i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// settle brings one entry of the manifest into its final state; of directories
// and files only that they exist. Hard links come later.
func (t *target) settle(e entry) error {
	f, there := t.local.get(e.path)
	switch {
	case e.kind == kindSpecial || e.kind == kindUnread || e.kind == kindHardLink || e.kind == kindDir && there:
		return nil
	case e.kind == kindDir:
		if err := t.unlockAbove(e.path); err != nil {
			return err
		}
		return t.mkdir(e.path)
	case e.kind == kindSymlink:
		if there && f.kind == kindSymlink && f.target == e.target {
			return t.redressLink(e, f)
		}
		return t.symlink(e)
	}
	if name, ok := t.staged[e.path]; ok {
		return t.placeStaged(name, e)
	}
	if f.kind != kindFile {
		return fmt.Errorf("%w: it was removed by somebody else", ErrVerify)
	}
	return nil
}

// placeStaged moves a file into its place, in which something else was.
func (t *target) placeStaged(name string, e entry) error {
	if err := t.rename(name, e); err != nil {
		return err
	}
	f, err := t.identify(e.path)
	if err == nil && f.node.links > 1 {
		f.xattrs = unknownXattrs // a borrowed one is not dressed
		t.local.put(e.path, f)
	}
	return err
}

// settleFile brings all of a file but its content into its final state.
func (t *target) settleFile(e entry) error {
	f := t.local.at(e.path)
	if f.is(e) {
		return nil
	}
	if err := t.unlockAbove(e.path); err != nil {
		return err
	}
	return t.redress(e, f)
}

// symlink makes a link, in the place of whatever file is there.
func (t *target) symlink(e entry) error {
	if err := t.unlockAbove(e.path); err != nil {
		return err
	}
	name := path.Join(parent(e.path), temporaryName())
	if err := t.root.Symlink(e.target, name); err != nil {
		return err
	}
	t.temporary[name] = true
	if err := t.dressLink(name, e); err != nil {
		return err
	}
	return t.rename(name, e)
}

// unlist gives up what index found and what was done since, before the tree is listed
// anew: a large one is not kept twice.
func (t *target) unlist() {
	t.local, t.looked = newPlaces(0), nil
	t.content, t.placed, t.staged = make(map[digest]string), make(map[digest]string), make(map[string]string)
}

// verify reads the whole tree again, as far as it was not read before and left
// alone since, and compares it with m. Where it differs it returns what is there, too.
func (t *target) verify(ctx context.Context, m *manifest) (*manifest, error) {
	t.scanner.wants = nil
	for dir := range t.touched {
		t.image.mark(dir)
	}
	t.unlist()
	all, err := t.list(ctx)
	if err != nil {
		return nil, err
	}
	copied, _, err := listing(m.veil(all), ability{keeps: keepAll})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrVerify, err)
	}
	if copied.digest() != m.digest() {
		return copied, fmt.Errorf("%w: %s; something else writes there, or the file system cannot keep it",
			ErrVerify, m.difference(copied))
	}
	t.made = nil // it stays, empty or not
	return copied, nil
}
