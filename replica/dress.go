package replica

import (
	"fmt"
	"os"
	"path"
	"syscall"
	"time"
)

// dress gives a file or directory, open and at name, all that e says of it but
// the content. A change of the owner takes set-ID bits and capabilities away, so
// it comes first: never does anybody else's program run with an owner's rights.
// Attributes come before the mode, which in the end may forbid to write them.
func (t *target) dress(f *os.File, name string, e entry) error {
	if e.owner.known {
		info, err := f.Stat()
		if err != nil {
			return err
		}
		if now, _ := statOf(info); now != e.owner {
			if err := f.Chown(int(e.owner.uid), int(e.owner.gid)); err != nil {
				return fmt.Errorf("giving it to %v: %w", e.owner, err)
			}
		}
	}
	if t.keeps&keepXattrs != 0 {
		if err := writeXattrs(f, e.xattrs, t.keeps); err != nil {
			return err
		}
	}
	if err := f.Chmod(fileMode(e.mode)); err != nil {
		return err
	}
	return t.root.Chtimes(osPath(name), time.Time{}, time.Unix(0, e.mtime))
}

// redress makes a file or directory that is in its place, and was found as f
// says, what e says, content apart.
func (t *target) redress(e entry, f found) error {
	t.dressing(e)
	if f.owner == e.owner && f.xattrs == e.xattrs {
		if err := t.root.Chmod(e.osPath(), fileMode(e.mode)); err != nil {
			return err
		}
		return t.root.Chtimes(e.osPath(), time.Time{}, time.Unix(0, e.mtime))
	}
	// Until it has its new owner, nobody may do with it what not both modes
	// allow, and nobody runs it with an owner's rights.
	access := uint16(0o600)
	if e.kind == kindDir {
		access = 0o700
	}
	if err := t.root.Chmod(e.osPath(), fileMode(f.mode&e.mode&0o777|access)); err != nil {
		return err
	}
	file, err := t.reopen(e)
	if err != nil {
		return err
	}
	defer file.Close()
	return t.dress(file, e.path, e)
}

// reopen opens a file or directory that is in its place.
func (t *target) reopen(e entry) (*os.File, error) {
	info, err := t.root.Lstat(e.osPath())
	if err != nil {
		return nil, err
	}
	if e.kind == kindFile {
		return openRegular(t.root, e.path, info)
	}
	f, err := t.root.OpenFile(e.osPath(), os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	now, err := f.Stat()
	if err == nil && !(now.IsDir() && os.SameFile(now, info)) {
		err = fmt.Errorf("%s %w", e.path, errRaced)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// dressLink gives a symbolic link at name the owner and the time of e.
func (t *target) dressLink(name string, e entry) error {
	if e.owner.known {
		info, err := t.root.Lstat(name)
		if err != nil {
			return err
		}
		if now, _ := statOf(info); now != e.owner {
			if err := t.root.Lchown(name, int(e.owner.uid), int(e.owner.gid)); err != nil {
				return fmt.Errorf("giving it to %v: %w", e.owner, err)
			}
		}
	}
	dir, err := openDir(t.root, parent(name))
	if err != nil {
		return err
	}
	defer dir.Close()
	return setLinkTime(dir, path.Base(name), e.mtime)
}

// redressLink makes a symbolic link in its place what e says.
func (t *target) redressLink(e entry, f found) error {
	if f.owner == e.owner && f.mtime == e.mtime {
		return nil
	}
	if err := t.unlockAbove(e.path); err != nil {
		return err
	}
	t.dressing(e)
	return t.dressLink(e.path, e)
}

// dressing notes that the attributes of an entry are about to change.
func (t *target) dressing(e entry) {
	t.looked = nil
	t.image.mark(parent(e.path))
	if e.kind == kindDir {
		t.image.mark(e.path)
	}
}
