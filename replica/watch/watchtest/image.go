package watchtest

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/budgiehq/budgie/replica/watch"
)

// Image is what a receiver of batches knows of a tree: for each directory a
// description of itself, under the empty name, and of its entries. It learns of
// changes only from batches.
type Image map[string]map[string]string

// Scan describes the whole tree below root. What vanishes meanwhile is left
// out.
func Scan(root string) (Image, error) {
	m := Image{}
	for todo := []string{"."}; len(todo) > 0; {
		dir := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		entries, err := list(root, dir)
		if err != nil {
			return nil, err
		}
		if entries == nil {
			continue
		}
		m[dir] = entries
		for name, what := range entries {
			if what == directory {
				todo = append(todo, path.Join(dir, name))
			}
		}
	}
	return m, nil
}

// directory is the description of an entry that is one; more is said by the
// directory itself.
const directory = "directory"

// list describes a directory and its entries; nil if there is none.
func list(root, dir string) (map[string]string, error) {
	full := filepath.Join(root, filepath.FromSlash(dir))
	info, err := os.Lstat(full)
	if gone(err) || err == nil && !info.IsDir() {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	m := map[string]string{"": describe(full, info)}
	entries, err := os.ReadDir(full)
	if err != nil && !gone(err) {
		return nil, err
	}
	for _, e := range entries {
		switch info, err := e.Info(); {
		case gone(err):
		case err != nil:
			return nil, err
		case info.IsDir():
			m[e.Name()] = directory
		default:
			m[e.Name()] = describe(filepath.Join(full, e.Name()), info)
		}
	}
	return m, nil
}

func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.ELOOP)
}

func describe(full string, info fs.FileInfo) string {
	target, _ := os.Readlink(full)
	size := info.Size()
	if info.IsDir() {
		size = 0
	}
	return fmt.Sprintf("%v %d %d %q", info.Mode(), size, info.ModTime().UnixNano(), target)
}

// Apply looks again at what a batch names, and at nothing else.
func (m Image) Apply(root string, b watch.Batch) error {
	if b.All {
		now, err := Scan(root)
		if err != nil {
			return err
		}
		clear(m)
		maps.Copy(m, now)
		return nil
	}
	for _, dir := range b.Dirs {
		// Its path may lead through a link by now.
		if dir != "." && m[path.Dir(dir)][path.Base(dir)] != directory {
			continue
		}
		entries, err := list(root, dir)
		if err != nil {
			return err
		}
		for name, what := range m[dir] {
			if what == directory && entries[name] != directory {
				m.forget(path.Join(dir, name))
			}
		}
		if entries == nil {
			m.forget(dir)
		} else {
			m[dir] = entries
		}
	}
	return nil
}

// forget removes a directory and all below.
func (m Image) forget(dir string) {
	for name, what := range m[dir] {
		if what == directory {
			m.forget(path.Join(dir, name))
		}
	}
	delete(m, dir)
}

// Diff compares the image with the tree below root; it returns at most a dozen
// lines, and nothing if they are equal.
func (m Image) Diff(root string) (string, error) {
	now, err := Scan(root)
	if err != nil {
		return "", err
	}
	var lines []string
	for dir := range both(m, now) {
		for name := range both(m[dir], now[dir]) {
			if have, is := m[dir][name], now[dir][name]; have != is {
				lines = append(lines, fmt.Sprintf("%q in %q: known as %q, is %q", name, dir, have, is))
			}
		}
	}
	slices.Sort(lines)
	return strings.Join(lines[:min(len(lines), 12)], "\n"), nil
}

// both returns the keys of two maps.
func both[V any](a, b map[string]V) map[string]struct{} {
	keys := make(map[string]struct{}, len(a))
	for k := range a {
		keys[k] = struct{}{}
	}
	for k := range b {
		keys[k] = struct{}{}
	}
	return keys
}
