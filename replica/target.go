package replica

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
)

// target is the directory that a copy is made in. Everything goes through its
// root, so that no name and no link leads out of it.
type target struct {
	root    tree
	scanner *scanner
	ability
	// image is what the tree was when it was last looked at.
	image *index
	// live is true where the tree is watched: then not all of it has to be looked
	// at each time.
	live bool
	// attic is where what is replaced and removed goes; nil where nothing is kept.
	attic *attic
	// seen is what was in the copy when it was last looked at as a whole, by path,
	// and report is told of what something else wrote there since.
	seen   map[string]*found
	report func(Conflict)
	// release lets others receive into the copy; nil where it is not locked.
	release func()
	// made are directories that were made to receive into, the lowest first.
	made []string
	// local is what is there, by path.
	local places
	// content says where a content is found, in the tree or under way.
	content map[digest]string
	// placed says the same of what came in this round; nothing overwrites it.
	placed map[digest]string
	// staged are complete files that wait beside their place, by path, since
	// something of another kind is in the way.
	staged map[string]string
	// temporary are all files under way.
	temporary map[string]bool
	// arrived are verified files that wait to be made durable together, and settling
	// those before them, which are on their way to the disk; nil where none are.
	arrived  []*incoming
	settling *settling
	// m is what the copy shall become.
	m *manifest
	// group is the first name of each other name of a file, as the manifest has
	// it.
	group map[string]string
	// ahead is what was looked at before it was known what the copy shall become.
	ahead *lookahead
	// looked is what index found, as long as nothing was done in the copy since.
	looked []*found
	// inside is how many names in the copy files had that had several, when the
	// copy was last looked at.
	inside map[fileID]uint64
	// dirty are directories in which names changed since they were synced, and
	// touched those whose entries or attributes changed in this round.
	dirty, touched map[string]bool
}

func newTarget(root tree) *target {
	s := &scanner{root: root, known: make(map[string]*hashed), unlock: true}
	return &target{
		root:      root,
		scanner:   s,
		image:     newIndex(s),
		temporary: make(map[string]bool),
		dirty:     make(map[string]bool),
		touched:   make(map[string]bool),
	}
}

// list returns what there is now.
func (t *target) list(ctx context.Context) ([]*found, error) {
	if !t.live {
		t.image.markAll()
	}
	return t.image.refresh(ctx)
}

// touch notes that a directory's entries or attributes changed.
func (t *target) touch(dir string) {
	t.looked = nil
	t.touched[dir] = true
	t.image.mark(dir)
}

// renamedIn notes that names in a directory changed.
func (t *target) renamedIn(dir string) {
	t.dirty[dir] = true
	t.touch(dir)
}

// close leaves nothing half-written behind, nor a directory that was made for
// nothing.
func (t *target) close() {
	for name := range t.temporary {
		_ = t.root.Remove(name) // the next Receive removes what stays
	}
	_ = t.root.Close()
	for i, dir := range t.made {
		if os.Remove(dir) != nil {
			break // something came
		}
		if i == 0 && t.release != nil { // the lock is in the next one
			t.release()
			t.release = nil
		}
	}
	if t.release != nil {
		t.release()
	}
}

// index looks at what is there, and hashes what may be of use for m, or all.
// Files under way count too: those of this Receive, and those of one that was
// killed.
func (t *target) index(ctx context.Context, m *manifest, all bool) error {
	sizes := make(map[int64]bool)
	for _, e := range m.entries {
		if e.kind == kindFile {
			sizes[e.size] = true
		}
	}
	t.scanner.wants = func(path string, size int64) bool {
		return all || t.live || sizes[size] || size >= deltaFrom && becomes(m, path)
	}
	there, err := t.lookedAhead(ctx)
	if err != nil {
		return err
	}
	there = m.veil(there)
	clear(t.touched)
	t.looked = there
	t.local = newPlaces(len(there))
	t.content = make(map[digest]string)
	t.placed = make(map[digest]string)
	t.staged = make(map[string]string)
	t.m, t.group = m, m.groups()
	for _, f := range t.scanner.temporary {
		if f.hashed {
			t.content[f.digest] = f.path
		}
	}
	for _, f := range there {
		t.local.by[f.path] = f
		if f.hashed {
			t.content[f.digest] = f.path
		}
	}
	t.notice()
	return nil
}

// holds reports whether the content of e is in its place.
func (t *target) holds(e entry) bool {
	f, ok := t.local.get(e.path)
	return ok && f.hashed && f.kind == kindFile && f.size == e.size && f.digest == e.digest
}

// spoiled returns the files that have another content than m says, of the same size
// and time.
func (t *target) spoiled(m *manifest) []string {
	var paths []string
	for _, e := range m.entries {
		f, there := t.local.get(e.path)
		if there && e.kind == kindFile && f.kind == kindFile && f.hashed && f.size == e.size && f.mtime == e.mtime && f.digest != e.digest {
			paths = append(paths, e.path)
		}
	}
	return paths
}

// copyAll brings files into place whose content is there under other names. It
// first makes all the copies and then moves them into place, since one's place
// may be another's source. It returns those whose content is not there.
func (t *target) copyAll(ctx context.Context, entries []entry) (failed []entry, err error) {
	var copies []*incoming
	defer func() {
		for _, c := range copies {
			c.discard()
		}
	}()
	for _, e := range entries {
		from, ok := t.placed[e.digest]
		if !ok {
			from, ok = t.content[e.digest]
		}
		if !ok {
			failed = append(failed, e)
			continue
		}
		c, err := t.copyOne(ctx, from, e)
		if gone(err) {
			failed = append(failed, e)
			continue
		} else if err != nil {
			return nil, fmt.Errorf("copying %s to %s: %w", from, e.path, err)
		}
		copies = append(copies, c)
		if len(copies)%batch == 0 {
			if err := syncAll(copies[len(copies)-batch:]); err != nil {
				return nil, err
			}
		}
	}
	if err := syncAll(copies[len(copies)/batch*batch:]); err != nil {
		return nil, err
	}
	for _, c := range copies {
		if err := c.place(); err != nil {
			return nil, err
		}
	}
	return failed, nil
}

// copyOne makes a copy for e, ready to be placed.
func (t *target) copyOne(ctx context.Context, from string, e entry) (c *incoming, err error) {
	if first, ok := t.group[from]; ok && first == e.path {
		return t.borrow(from, e)
	}
	if err := t.unlockAbove(from); err != nil {
		return nil, err
	}
	info, err := t.root.Lstat(from)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() != e.size {
		return nil, errRaced
	}
	src, err := t.scanner.open(from, info)
	if err != nil {
		return nil, err
	}
	defer src.Close()
	c, err = t.create(e)
	if err != nil {
		return nil, err
	}
	defer func(c *incoming) {
		if err != nil {
			c.discard()
		}
	}(c)
	if _, err := copyContent(ctx, c, src, e.size, t.scanner.buf.bytes()); err != nil {
		return nil, err
	}
	if c.digest() != e.digest {
		return nil, errRaced
	}
	return c, c.seal()
}

// blocked reports whether something of another kind is in the way of a file at
// path: a directory there, or no directory above it.
func (t *target) blocked(name string) bool {
	if f, ok := t.local.get(name); ok && f.kind == kindDir {
		return true
	}
	for name != "" {
		name = parent(name)
		if f, ok := t.local.get(name); ok && f.kind != kindDir {
			return true
		}
	}
	return false
}

// stage returns the directory in which to make the file for path: that of path
// where it can be, else the nearest one above.
func (t *target) stage(name string) (string, error) {
	blocked := t.blocked(name)
	dir := ""
	if err := t.unlock(dir); err != nil {
		return "", err
	}
	for i, c := range name {
		if c != '/' {
			continue
		}
		next := name[:i]
		f, ok := t.local.get(next)
		if blocked && (!ok || f.kind != kindDir) {
			break
		}
		if !ok {
			if err := t.mkdir(next); err != nil {
				return "", err
			}
		}
		if err := t.unlock(next); err != nil {
			return "", err
		}
		dir = next
	}
	return dir, nil
}

// mkdir makes a directory in one that is there and unlocked.
func (t *target) mkdir(name string) error {
	if err := t.makeWay(name); err != nil {
		return err
	}
	if f, there := t.local.get(name); there && f.kind == kindDir {
		return t.unlock(name) // by another spelling
	}
	if err := t.root.Mkdir(name, 0o700); err != nil {
		return err
	}
	t.local.put(name, found{entry: entry{path: name, kind: kindDir, mode: 0o700, xattrs: unknownXattrs}})
	t.renamedIn(parent(name))
	return nil
}

// unlock lets the owner write in a directory. Its mode is set in the end.
func (t *target) unlock(name string) error {
	f := t.local.at(name)
	if f.mode&0o700 == 0o700 {
		return nil
	}
	f.mode |= 0o700
	if err := t.root.Chmod(osPath(name), fileMode(f.mode)); err != nil {
		return err
	}
	t.touch(name)
	t.local.put(name, f)
	return nil
}

// rename moves a temporary file or link into the place of e, at once and
// whatever file was there.
func (t *target) rename(name string, e entry) error {
	if err := t.makeWay(e.path); err != nil {
		return err
	}
	return t.move(name, e)
}

// move does so where way was made.
func (t *target) move(name string, e entry) error {
	if err := t.keepReplaced(e); err != nil {
		return err
	}
	if err := t.root.Rename(name, e.path); err != nil {
		return err
	}
	delete(t.temporary, name)
	t.renamedIn(parent(name))
	t.renamedIn(parent(e.path))
	t.local.put(e.path, found{entry: e, hashed: e.kind == kindFile})
	if t.attic != nil {
		t.seen[e.path] = brought
	}
	return nil
}

// syncDirs makes the changed names durable.
func (t *target) syncDirs() error {
	for name := range t.dirty {
		d, err := openDir(t.root, name)
		if missing(err) {
			continue // it has gone, whatever is in its place
		} else if err != nil {
			return err
		}
		err = d.Sync()
		_ = d.Close()
		// Some file systems have no fsync for directories, and say so.
		if err != nil && !errors.Is(err, syscall.EINVAL) {
			return err
		}
	}
	clear(t.dirty)
	return nil
}
