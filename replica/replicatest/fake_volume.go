package replicatest

import (
	"bytes"
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
	names := make(map[string]string)
	for i, e := range entries {
		switch first, ok := names[e.file]; {
		case e.file == "":
		case ok:
			entries[i].Kind, entries[i].Target, entries[i].Size = 'h', first, 0
		default:
			names[e.file] = e.Path
		}
	}
	return entries, err
}

func readEntry(path string, info fs.FileInfo) (fakeEntry, error) {
	const bits = fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky
	e := fakeEntry{Mode: uint32(info.Mode() & bits), Time: info.ModTime().UnixNano()}
	e.Owner, e.file = identify(info)
	var err error
	switch info.Mode().Type() {
	case fs.ModeDir:
		e.Kind = 'd'
	case fs.ModeSymlink:
		e.Kind, e.Mode, e.file = 'l', 0, ""
		e.Target, err = os.Readlink(path)
		return e, err
	case 0:
		e.Kind = 'f'
		e.content, err = os.ReadFile(path)
		e.Size, e.Sum = int64(len(e.content)), sha256.Sum256(e.content)
	default:
		return fakeEntry{Kind: 's'}, nil
	}
	if err == nil {
		e.Xattrs, err = xattrsOf(path)
	}
	if e.Kind == 'd' {
		e.file = "" // the links of directories are not names of theirs
	}
	return e, err
}

// words are all that counts of an entry, content apart; equal for equal ones.
func (e fakeEntry) words() string {
	if e.Kind == 'h' {
		return "h " + e.Target
	}
	return fmt.Sprintf("%c %o %s %d %q %x %q", e.Kind, e.Mode, e.Owner, e.Time, e.Target, e.Sum, e.Xattrs)
}

// forPlainUser leaves out what only root can keep, and says whether there was
// any.
func forPlainUser(entries []fakeEntry, user string) (notKept []string) {
	const setID = uint32(fs.ModeSetuid | fs.ModeSetgid)
	for i, e := range entries {
		if e.Kind != 's' && e.Owner != user || e.Mode&setID != 0 {
			notKept = []string{"owners and set-ID bits"}
		}
		entries[i].Owner = ""
		entries[i].Mode &^= setID
	}
	return notKept
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
		if err := e.dress(filepath.Join(dir, e.Path)); err != nil {
			return 0, err
		}
	}
	return removed, nil
}

// dress gives what is at path all but its content.
func (e fakeEntry) dress(path string) error {
	if e.Kind == 'h' || e.Kind == 's' {
		return nil
	}
	if e.Owner != "" {
		var uid, gid int
		if _, err := fmt.Sscanf(e.Owner, "%d:%d", &uid, &gid); err != nil {
			return err
		}
		if err := os.Lchown(path, uid, gid); err != nil {
			return err
		}
	}
	if e.Kind == 'l' {
		return setLinkTime(path, time.Unix(0, e.Time))
	}
	if err := replaceXattrs(path, e.Xattrs); err != nil {
		return err
	}
	return errors.Join(os.Chmod(path, fs.FileMode(e.Mode)), os.Chtimes(path, time.Time{}, time.Unix(0, e.Time)))
}

// removeOthers removes what is not in entries, or of another kind there.
func removeOthers(root *os.Root, local map[string]fakeEntry, entries []fakeEntry) (removed int, err error) {
	for _, e := range entries {
		if have, ok := local[e.Path]; ok && (have.Kind == e.Kind || have.isFile() && e.isFile()) {
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

func (e fakeEntry) isFile() bool { return e.Kind == 'f' || e.Kind == 'h' }

// writeEntry makes one entry, in the place of one of its kind.
func writeEntry(root *os.Root, e fakeEntry) error {
	if e.isFile() || e.Kind == 'l' {
		if err := root.Remove(e.Path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	switch e.Kind {
	case 'd':
		return root.MkdirAll(e.Path, 0o700)
	case 'l':
		return root.Symlink(e.Target, e.Path)
	case 'h':
		return root.Link(e.Target, e.Path)
	case 'f':
		return writeContent(root, e)
	}
	return nil
}

// writeContent writes a file, and leaves holes for blocks of zeros.
func writeContent(root *os.Root, e fakeEntry) error {
	f, err := root.OpenFile(e.Path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	var hole [4096]byte
	at := int64(0)
	for block := range slices.Chunk(e.content, len(hole)) {
		if !bytes.Equal(block, hole[:len(block)]) {
			if _, err := f.WriteAt(block, at); err != nil {
				return err
			}
		}
		at += int64(len(block))
	}
	return f.Truncate(at)
}
