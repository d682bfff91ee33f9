package replicatest

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// readVolume reads a directory into memory, sorted by path; the directory
// itself is ".".
func readVolume(dir string) ([]fakeEntry, error) {
	var entries []fakeEntry
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		e, err := readEntry(path, info)
		e.Path = filepath.ToSlash(rel)
		entries = append(entries, e)
		return err
	})
	slices.SortFunc(entries, func(a, b fakeEntry) int { return cmp.Compare(a.Path, b.Path) })
	return entries, err
}

func readEntry(path string, info fs.FileInfo) (fakeEntry, error) {
	e := fakeEntry{Mode: uint32(info.Mode() & (fs.ModePerm | fs.ModeSticky)), Time: info.ModTime().UnixNano()}
	var err error
	switch info.Mode().Type() {
	case fs.ModeDir:
		e.Kind = 'd'
	case fs.ModeSymlink:
		e.Kind, e.Mode, e.Time = 'l', 0, 0
		e.Target, err = os.Readlink(path)
	case 0:
		e.Kind = 'f'
		e.content, err = os.ReadFile(path)
		e.Size, e.Sum = int64(len(e.content)), sha256.Sum256(e.content)
	default:
		e.Kind = 's'
	}
	e.Words = fmt.Sprintf("%c %o %d %q %x", e.Kind, e.Mode, e.Time, e.Target, e.Sum)
	return e, err
}

// readCopy reads what is in the directory of a copy, which need not exist, by
// path. It makes its directories and files accessible.
func readCopy(dir string) (map[string]fakeEntry, error) {
	local := make(map[string]fakeEntry)
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		return local, nil
	}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && (d.IsDir() || d.Type().IsRegular()) {
			return os.Chmod(path, 0o700)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	entries, err := readVolume(dir)
	for _, e := range entries {
		local[e.Path] = e
	}
	return local, err
}

// writeVolume makes a directory what entries say. It returns how many entries
// it removed.
func writeVolume(dir string, local map[string]fakeEntry, entries []fakeEntry) (removed int, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return 0, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return 0, err
	}
	defer root.Close()
	if removed, err = removeOthers(root, local, entries); err != nil {
		return 0, err
	}
	for _, e := range entries {
		if err := writeEntry(root, e); err != nil {
			return 0, err
		}
	}
	for _, e := range slices.Backward(entries) {
		if e.Kind != 'd' && e.Kind != 'f' {
			continue
		}
		mode := fs.FileMode(e.Mode)
		if err := errors.Join(root.Chmod(e.Path, mode), root.Chtimes(e.Path, time.Time{}, time.Unix(0, e.Time))); err != nil {
			return 0, err
		}
	}
	return removed, nil
}

// removeOthers removes what is not in entries, or of another kind there.
func removeOthers(root *os.Root, local map[string]fakeEntry, entries []fakeEntry) (removed int, err error) {
	for _, e := range entries {
		if have, ok := local[e.Path]; ok && have.Kind == e.Kind {
			delete(local, e.Path)
		}
	}
	for path := range local {
		if path == "." {
			continue
		}
		if err := root.RemoveAll(path); err != nil {
			return 0, err
		}
		removed++
	}
	return removed, nil
}

// writeEntry makes one entry, in the place of one of its kind.
func writeEntry(root *os.Root, e fakeEntry) error {
	if e.Kind == 'f' || e.Kind == 'l' {
		if err := root.Remove(e.Path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	switch e.Kind {
	case 'd':
		return root.MkdirAll(e.Path, 0o700)
	case 'l':
		return root.Symlink(e.Target, e.Path)
	case 'f':
		return root.WriteFile(e.Path, e.content, 0o600)
	}
	return nil
}
