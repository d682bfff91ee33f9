package replica

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"strings"
	"syscall"
)

// File systems may take two names for one, because of case or of how Unicode
// composes letters, or keep a name in another spelling. How they do that differs,
// so the file system itself is asked: a name under which nothing was found, and
// at which something is, is another one's.

// alias returns under which name the file system lists what is at a path, if
// that is another one.
func (t *target) alias(name string) (other string, err error) {
	info, err := t.root.Lstat(osPath(name))
	if err != nil {
		return "", err
	}
	dir, err := openDir(t.root, parent(name))
	if err != nil {
		return "", err
	}
	names, err := dir.Readdirnames(-1)
	_ = dir.Close()
	if err != nil {
		return "", err
	}
	for _, n := range names {
		there := path.Join(parent(name), n)
		if there == name {
			return "", nil // it is listed as it should be
		}
		if i, err := t.root.Lstat(there); err == nil && os.SameFile(i, info) {
			other = there
		}
	}
	return other, nil
}

// makeWay sees to it that a new entry can be made at a path. Where the file
// system takes the path for another one of the source, it returns ErrNames;
// another one of the copy alone gets the new spelling.
func (t *target) makeWay(name string) error {
	if _, known := t.local.get(name); known || t.local.at(parent(name)).kind != kindDir {
		return nil // what is above may be a link, and lead elsewhere
	}
	info, err := t.root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil
	} else if err != nil {
		return err
	}
	other, err := t.alias(name)
	if err == nil && other == "" {
		t.stranger(name, info) // somebody else made it
	}
	if err != nil || other == "" {
		return err
	}
	if _, wanted := t.m.find(other); wanted {
		return sameName(other, name)
	}
	return t.respell(other, name)
}

func sameName(a, b string) error {
	return fmt.Errorf("%w: %q and %q; rename one of them at the source, or keep the copy on another file system", ErrNames, min(a, b), max(a, b))
}

// respell gives what is listed under one name another spelling of it. File
// systems take a rename to what is the same name for done already, so it goes by
// way of a third one.
func (t *target) respell(from, to string) error {
	between := path.Join(parent(to), temporaryName())
	if err := t.root.Rename(from, between); err != nil {
		return err
	}
	if err := t.root.Rename(between, to); err != nil {
		return err
	}
	t.renamedIn(parent(to))
	moved := newPlaces(0)
	for at, f := range t.local.by {
		if rest, below := strings.CutPrefix(at, from); below && (rest == "" || rest[0] == '/') {
			f := *f
			f.path = to + rest
			moved.put(f.path, f)
			t.local.drop(at)
			if v, there := t.seen[at]; there {
				t.seen[f.path] = v
			}
		}
	}
	maps.Copy(t.local.by, moved.by)
	return nil
}

// checkNames looks whether what came is listed under the names that it came by,
// before anything is removed. It is true if one had to be spelled anew.
func (t *target) checkNames(ctx context.Context) (respelled bool, err error) {
	for _, e := range t.m.entries {
		if _, listed := t.local.get(e.path); listed || e.kind == kindSpecial || e.kind == kindUnread {
			continue
		}
		if err := ctx.Err(); err != nil {
			return false, err
		}
		if err := t.makeWay(e.path); err != nil {
			return false, err
		}
		if _, listed := t.local.get(e.path); !listed {
			continue // it is made later
		}
		respelled = true
		if other, err := t.alias(e.path); err != nil {
			return false, err
		} else if other != "" {
			return false, fmt.Errorf("%w: it keeps %q as %q; rename it at the source, or keep the copy on another file system", ErrNames, e.path, other)
		}
	}
	return respelled, nil
}
