package replica

import (
	"errors"
	"io/fs"
	"time"
)

// version is what tells what was at a path from what somebody else put or wrote
// there since.
type version struct {
	file        fileID
	size, mtime int64
}

// brought stands for what came from the source since.
var brought = new(found)

func versionOf(info fs.FileInfo) version {
	_, n := statOf(info)
	v := version{file: n.file, mtime: nanos(info.ModTime())}
	if info.Mode().IsRegular() {
		v.size = info.Size()
	}
	return v
}

// notice notes what is in the copy now, before anything of it is replaced or removed.
func (t *target) notice() {
	if t.attic == nil {
		return
	}
	t.seen = make(map[string]*found, len(t.local.by))
	for name, f := range t.local.by {
		if f.kind == kindFile || f.kind == kindSymlink {
			t.seen[name] = f
		}
	}
}

// written reports whether something else put or wrote what is at a path since
// notice: that may be a while ago, as long as a large file takes to arrive.
func (t *target) written(name string) bool {
	var was version
	switch f := t.seen[name]; f {
	case brought:
		return false
	case nil:
	default:
		was = version{file: f.node.file, size: f.size, mtime: f.mtime}
	}
	info, err := t.root.Lstat(name)
	return err == nil && (info.Mode().IsRegular() || info.Mode()&fs.ModeSymlink != 0) && versionOf(info) != was
}

// stranger notes what somebody else put at a path since the copy was looked at.
func (t *target) stranger(name string, info fs.FileInfo) {
	e := entry{path: name, kind: kindFile, mtime: nanos(info.ModTime())}
	switch info.Mode().Type() {
	case 0:
	case fs.ModeSymlink:
		e.kind = kindSymlink
	default:
		return // it is in the way, and the next attempt sees it
	}
	f := found{entry: e}
	_, f.node = statOf(info)
	t.local.put(name, f)
}

// keepWritten keeps what something else wrote at a path that is going to be the
// source's: as a conflict, by another name of it.
func (t *target) keepWritten(name string) error {
	where, err := t.attic.keepAside(t.root, name, true)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it has gone
	} else if err != nil {
		return err
	}
	t.report(Conflict{Path: name, Kept: where, At: time.Now()})
	return nil
}
