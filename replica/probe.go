package replica

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// openTarget makes and opens the directory to receive into, and tries what it
// can keep.
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
	if t.ability, err = t.probe(); err != nil {
		t.close()
		return nil, fmt.Errorf("trying what can be kept in %s: %w", dir, err)
	}
	t.scanner.keeps = t.keeps
	return t, nil
}

// openRoot opens a directory so that nothing leads out of it.
func openRoot(dir string) (tree, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return root, nil
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

// probe tries on an empty file what this process may do, and what the file
// system of the copy can hold. It leaves no trace.
func (t *target) probe() (a ability, err error) {
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
	name := temporaryName()
	f, err := t.root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return ability{}, err
	}
	defer func() { err = errors.Join(err, f.Close(), t.root.Remove(name)) }()
	if a.keeps, err = probeXattrs(f); err != nil {
		return ability{}, err
	}
	if other := temporaryName(); t.root.Link(name, other) == nil {
		a.keeps |= keepHardLinks
		if err := t.root.Remove(other); err != nil {
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
