package replica

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// openTarget makes and opens the directory to receive into.
func openTarget(dir string, open func(dir string) (tree, error)) (*target, error) {
	made, err := makeAll(dir)
	if err != nil {
		return nil, err
	}
	root, err := open(dir)
	if err != nil {
		return nil, err
	}
	t := newTarget(root)
	t.made = made
	return t, nil
}

// try finds out what the copy in a directory can keep. Where the disk is so full
// that this cannot be tried, it is what it has kept so far, if that is known: what
// comes may remove something. Where it is not known either, the error says that
// there is no room, and the ability is the least.
func (t *target) try(dir string, open func(dir string) (tree, error), base *manifest) (err error) {
	t.ability, err = t.probe(dir, open)
	if noRoom(err) {
		t.ability = abilityOf(base)
		if base != nil && len(base.entries) > 1 {
			err = nil
		}
	}
	t.scanner.keeps = t.keeps
	if err != nil {
		return fmt.Errorf("trying what can be kept in %s: %w", dir, err)
	}
	return nil
}

// abilityOf is what a copy that was complete, or is not known, can keep at least.
func abilityOf(m *manifest) ability {
	a := ability{owner: owner{uid: uint32(os.Geteuid()), gid: uint32(os.Getegid()), known: true}}
	if m == nil {
		return a
	}
	for _, e := range m.entries {
		a.keeps |= e.needs()
	}
	return a
}

// openRoot opens a directory so that nothing leads out of it.
func openRoot(dir string) (tree, error) {
	root, err := rootOf(dir)
	if err != nil {
		return nil, err
	}
	return newNear(root), nil
}

// rootOf is [os.OpenRoot], which would wait for who writes there where a pipe is in the
// place of the directory.
func rootOf(dir string) (*os.Root, error) {
	root, err := os.OpenRoot(dir + "/.")
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		e.Path = dir
	}
	return root, err
}

// openDir opens a directory of a tree for reading, and nothing else that may be in its
// place: it never waits.
func openDir(root interface {
	OpenFile(name string, flag int, perm fs.FileMode) (*os.File, error)
}, path string) (*os.File, error) {
	return root.OpenFile(osPath(path), os.O_RDONLY|syscall.O_NONBLOCK|onlyDirectory, 0)
}

// makeAll makes a directory with those above it, and returns which it made, the
// lowest first.
func makeAll(dir string) (made []string, err error) {
	for d := filepath.Clean(dir); d != filepath.Dir(d); d = filepath.Dir(d) {
		if _, err := os.Stat(d); !errors.Is(err, fs.ErrNotExist) {
			break
		}
		made = append(made, d)
	}
	return made, os.MkdirAll(dir, 0o700)
}

// probe tries what this process may do, and what the file system of the copy can
// hold: beside the directory, where that is on the same one, so that nobody who
// looks into the copy sees it.
func (t *target) probe(dir string, open func(dir string) (tree, error)) (ability, error) {
	if dir, err := filepath.Abs(dir); err == nil {
		if above, err := open(filepath.Dir(dir)); err == nil {
			defer above.Close()
			if a, err := t.probeBeside(above, filepath.Base(dir)); err == nil || noRoom(err) {
				return a, err
			}
		}
	}
	return t.probeInside()
}

// errElsewhere says that a directory is on another file system.
var errElsewhere = errors.New("on another file system")

// probeBeside tries it in the directory above the copy. What was left there by one
// that was killed goes.
func (t *target) probeBeside(above tree, name string) (ability, error) {
	here, err := t.root.Stat(".")
	if err != nil {
		return ability{}, err
	}
	there, err := above.Stat(".")
	if err != nil {
		return ability{}, err
	}
	_, a := statOf(here)
	if _, b := statOf(there); a.file.dev != b.file.dev || a.file == b.file {
		return ability{}, errElsewhere
	}
	dir, err := openDir(above, "")
	if err != nil {
		return ability{}, err
	}
	names, err := dir.Readdirnames(-1)
	_ = dir.Close() // it was only read
	if err != nil {
		return ability{}, err
	}
	for _, n := range names {
		if left, ours := strings.CutPrefix(n, name); ours && isTemporary(left) {
			_ = above.Remove(n) // the next time tries again
		}
	}
	return probeIn(above, func() string { return name + temporaryName() })
}

// probeInside tries it in the copy, and leaves no trace.
func (t *target) probeInside() (a ability, err error) {
	info, err := t.root.Stat(".")
	if err != nil {
		return ability{}, err
	}
	mode := modeOf(info.Mode())
	if mode&0o700 != 0o700 {
		if err := t.root.Chmod(".", fileMode(mode|0o700)); err != nil {
			return ability{}, err
		}
		defer func() { err = errors.Join(err, t.root.Chmod(".", fileMode(mode))) }()
	}
	defer func() { err = errors.Join(err, t.root.Chtimes(".", time.Time{}, info.ModTime())) }()
	return probeIn(t.root, temporaryName)
}

// probeIn tries it on an empty file in a directory.
func probeIn(root tree, newName func() string) (a ability, err error) {
	name := newName()
	f, err := root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return ability{}, err
	}
	defer func() { err = errors.Join(err, f.Close(), root.Remove(name)) }()
	if a.keeps, err = probeXattrs(f); err != nil {
		return ability{}, err
	}
	other := newName()
	if err := root.Link(name, other); noRoom(err) {
		return ability{}, err // there may be hard links, when there is room
	} else if err == nil {
		a.keeps |= keepHardLinks
		if err := root.Remove(other); err != nil {
			return ability{}, err
		}
	}
	made, err := f.Stat()
	if err != nil {
		return ability{}, err
	}
	a.owner, _ = statOf(made)
	a.keeps |= probeOwners(f, a.owner)
	return a, nil
}

// probeOwners says whether files can be given away, and then have set-ID bits.
func probeOwners(f *os.File, now owner) (k keeps) {
	// The last ids are -1, which is none, and that of nobody.
	other := owner{uid: now.uid + 1, gid: now.gid + 1, known: true}
	if !now.known || f.Chown(int(other.uid), int(other.gid)) != nil {
		return 0
	}
	info, err := f.Stat()
	if err != nil {
		return 0
	}
	if given, _ := statOf(info); given != other {
		return 0
	}
	// Nobody can run it, whoever it belongs to.
	const bits = modeSetUID | modeSetGID | modeSticky | 0o600
	if f.Chmod(fileMode(bits)) != nil {
		return keepOwners
	}
	if info, err = f.Stat(); err != nil || modeOf(info.Mode()) != bits {
		return keepOwners
	}
	return keepOwners | keepSetID
}
