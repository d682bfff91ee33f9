// Package ownership keeps what root makes in another user's directory usable
// for that user: it is given to whoever owns the directory that it is made in.
// For anybody but root, and where directories have no owner of that kind,
// everything is as with package os.
//
// Whoever owns the directory may put links there. So nothing is followed, and
// only what was made just now is given away.
package ownership

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// OpenFile is [os.OpenFile]. A file that it makes belongs to the owner of its
// directory. Where that is another user, links are not followed.
func OpenFile(path string, flag int, perm fs.FileMode) (*os.File, error) {
	who, foreign, err := ownerOf(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	if !foreign {
		return os.OpenFile(path, flag, perm)
	}
	if flag&os.O_CREATE == 0 {
		return os.OpenFile(path, flag|noFollow, perm)
	}
	for {
		f, err := os.OpenFile(path, flag|os.O_EXCL, perm)
		switch {
		case err == nil:
			if err := who.give(f); err != nil {
				return nil, errors.Join(err, f.Close(), os.Remove(path))
			}
			return f, nil
		case flag&os.O_EXCL != 0 || !errors.Is(err, fs.ErrExist):
			return nil, err
		}
		f, err = os.OpenFile(path, flag&^os.O_CREATE|noFollow, perm)
		if !errors.Is(err, fs.ErrNotExist) {
			return f, err
		}
		// Removed in between: make it anew.
	}
}

// Give gives a file that was made just now in dir, and which nobody else can
// have put there, to the owner of dir.
func Give(f *os.File, dir string) error {
	who, foreign, err := ownerOf(dir)
	if err != nil || !foreign {
		return err
	}
	return who.give(f)
}

// MkdirAll is [os.MkdirAll]. Each directory that it makes belongs to the owner
// of the one above.
func MkdirAll(path string, perm fs.FileMode) error {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return nil
	}
	if above := filepath.Dir(path); above != path {
		if err := MkdirAll(above, perm); err != nil {
			return err
		}
	}
	if err := Mkdir(path, perm); err != nil {
		if info, serr := os.Stat(path); serr == nil && info.IsDir() {
			return nil
		}
		return err
	}
	return nil
}

// Mkdir is [os.Mkdir]. The directory belongs to the owner of the one above.
func Mkdir(path string, perm fs.FileMode) error {
	who, foreign, err := ownerOf(filepath.Dir(path))
	if err != nil {
		return err
	}
	if err := os.Mkdir(path, perm); err != nil || !foreign {
		return err
	}
	d, err := os.OpenFile(path, os.O_RDONLY|noFollow, 0)
	if err == nil {
		err = errors.Join(who.give(d), d.Close())
	}
	if err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

// GiveTree gives a directory that was made just now, and all that is in it, to
// the owner of the directory above. It follows no links.
func GiveTree(dir string) error {
	who, foreign, err := ownerOf(filepath.Dir(dir))
	if err != nil || !foreign {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	return fs.WalkDir(root.FS(), ".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return root.Lchown(path, who.uid, who.gid)
	})
}

// Foreign reports whether this process is root's and a directory belongs to
// another user, who can change what is in it at any time.
func Foreign(dir string) (bool, error) {
	_, foreign, err := ownerOf(dir)
	return foreign, err
}

// owner is a user and a group.
type owner struct{ uid, gid int }

func (o owner) give(f *os.File) error { return f.Chown(o.uid, o.gid) }
