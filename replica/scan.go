package replica

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/budgiehq/budgie/replica/internal/delta"
)

// quiet is how long a file must have been left alone before it was hashed for
// its times to prove that it did not change since: file systems' times are as
// coarse as 2 s.
const quiet = 2 * time.Second

// scanAttempts is how often an entry is looked at again that changes its type
// between two looks.
const scanAttempts = 5

// errRaced means that a path is not what it was a moment ago.
var errRaced = errors.New("changed while it was looked at")

// fingerprint changes whenever a file's content does, within the limits that
// quiet is for.
type fingerprint struct {
	dev, ino     uint64
	size         int64
	mtime, ctime int64
}

// fileID tells the files of a system apart.
type fileID struct{ dev, ino uint64 }

// node is which file of the system a name leads to. The zero value is one that
// is not known.
type node struct {
	file fileID
	// links is how many names it has, anywhere.
	links uint64
	// allocated is how many bytes it occupies.
	allocated int64
}

// hashed is a digest once computed, with the attributes that the file had then.
type hashed struct {
	// path is where it was read, so that there is one string of it for all that speak
	// of the file; that may have other names.
	path   string
	fp     fingerprint
	size   int64
	digest digest
	xattrs string
	at     time.Time // before the first byte was read
	// bare says that xattrs were not read.
	bare bool
}

// tree is what is done with the files of a volume: what *os.Root does.
type tree interface {
	OpenFile(name string, flag int, perm fs.FileMode) (*os.File, error)
	Stat(name string) (fs.FileInfo, error)
	Lstat(name string) (fs.FileInfo, error)
	Readlink(name string) (string, error)
	Mkdir(name string, perm fs.FileMode) error
	Link(oldname, newname string) error
	Symlink(oldname, newname string) error
	Rename(oldname, newname string) error
	Remove(name string) error
	Chmod(name string, mode fs.FileMode) error
	Lchown(name string, uid, gid int) error
	Chtimes(name string, atime, mtime time.Time) error
	Close() error
}

// scanner looks at a tree.
type scanner struct {
	root tree
	// known are the digests computed so far, by path, and learned is how many were
	// computed by this scanner.
	known   map[string]*hashed
	learned int
	// wants says which files are worth hashing; nil means all.
	wants func(path string, size int64) bool
	// lists takes the chunk lists of files; nil where nobody makes deltas.
	lists *delta.Memory
	// linked are the digests of files with several names, of the scan under way.
	linked map[fileID]hashed
	// unlock lets the scanner read what the modes forbid their owner, by
	// changing them for a moment.
	unlock bool
	// unlocked says that it did with the file that is looked at now.
	unlocked bool
	// keeps are the attributes that are looked at.
	keeps keeps
	// temporary are the files under way that were found; they are not part of
	// the tree.
	temporary []found
	// seen is told of files that are known or read, and of the bytes of those; nil
	// where nobody wants to know.
	seen func(files int, bytes int64)
	// lenient says that what cannot be read, or carried, does not end a scan.
	// skipped are the paths that cannot be carried, not even by name.
	lenient bool
	skipped []string
	buf     buffer
	// room is for what a scan finds, nil beside one. name and info are
	// for what is looked at now.
	room *block[found]
	name []byte
	info nameInfo
}

// buffer is where content passes through, allocated when first used.
type buffer []byte

func (b *buffer) bytes() []byte {
	if *b == nil {
		*b = make([]byte, 128<<10)
	}
	return *b
}

// found is an entry as it was seen. Files that were not worth hashing are not
// hashed.
type found struct {
	entry
	node   node
	hashed bool
}

// scan lists the tree, sorted by path, the root first.
func (s *scanner) scan(ctx context.Context) ([]*found, error) {
	s.temporary, s.skipped = nil, nil
	s.linked = make(map[fileID]hashed)
	s.room = new(block[found])
	defer func() { s.room = nil }()
	all, err := s.visit(ctx, make([]*found, 0, len(s.known)+roomFor), nil, "")
	if err != nil {
		return nil, err
	}
	slices.SortFunc(all, func(a, b *found) int { return cmp.Compare(a.path, b.path) })
	slices.Sort(s.skipped)
	return all, nil
}

// rest leaves no directory open: what is mounted there may be unmounted.
func (s *scanner) rest() {
	if n, ok := s.root.(*near); ok {
		n.rest()
	}
}

// visit appends what is at path and below, in the directory above. What
// vanishes meanwhile was not there.
func (s *scanner) visit(ctx context.Context, all []*found, above *os.File, name string) ([]*found, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if s.skips(name) {
		s.skipped = append(s.skipped, name)
		return all, nil
	}
	var f found
	var err error
	for range scanAttempts {
		f, err = s.look(ctx, above, name)
		if !errors.Is(err, errRaced) {
			break
		}
	}
	switch {
	case missing(err) && name != "":
		return all, nil
	case s.lenient && f.kind == kindDir && isTemporary(path.Base(name)):
		s.skipped = append(s.skipped, name)
		return all, nil
	case s.passes(err) && name != "":
		return append(all, unread(name)), nil
	case errors.Is(err, errRaced):
		return nil, fmt.Errorf("%w: %w", ErrChanged, err)
	case err != nil:
		return nil, err
	case f.kind != kindDir && isTemporary(path.Base(name)):
		s.temporary = append(s.temporary, f)
		return all, nil
	}
	if f.kind != kindDir {
		return append(all, s.keep(f)), nil
	}
	dir, names, leave, err := s.enter(f.entry)
	if err == nil {
		defer leave()
		f.xattrs, err = s.xattrsOf(f.entry, dir, "")
	}
	switch {
	case missing(err):
		return append(all, s.keep(f)), nil
	case s.passes(err) && name != "":
		return append(all, unread(name)), nil
	case err != nil:
		return nil, err
	}
	all = append(all, s.keep(f))
	for _, child := range names {
		if all, err = s.visit(ctx, all, dir, s.below(name, child)); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// missing is true for errors of names that lead to nothing, or not any more
// through a directory: a link may have taken its place.
func missing(err error) bool {
	return err != nil && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) ||
		errors.Is(err, syscall.ELOOP) || errors.Is(err, errEscapes()))
}

// errEscapes is what an [os.Root] returns for names that lead out of it. Package os
// does not export it.
var errEscapes = sync.OnceValue(func() error {
	root, err := os.OpenRoot(os.TempDir())
	if err != nil {
		return errors.New("no directory to try it on") // and what escapes ends the copy
	}
	defer root.Close()
	_, err = root.Lstat("..")
	if path, ok := errors.AsType[*fs.PathError](err); ok {
		return path.Err
	}
	return err
})

// look describes what is at path, in the directory above. The attributes of
// directories are left for later.
func (s *scanner) look(ctx context.Context, above *os.File, name string) (found, error) {
	info, err := s.stat(above, name)
	if err != nil {
		return found{}, err
	}
	f := found{entry: entry{path: name, mode: modeOf(info.Mode()), mtime: nanos(info.ModTime())}}
	if f.owner, f.node = statOf(info); s.keeps&keepOwners == 0 {
		f.owner = owner{}
	}
	switch info.Mode().Type() {
	case fs.ModeDir:
		f.kind = kindDir
	case 0:
		f.kind, f.size = kindFile, info.Size()
		if s.lenient && f.size > maxFileSize {
			return f, errTooLarge
		}
		err = s.lookInto(ctx, above, &f, info)
	case fs.ModeSymlink:
		f.kind, f.mode = kindSymlink, 0
		f.target, err = s.root.Readlink(name)
		if errors.Is(err, syscall.EINVAL) {
			err = fmt.Errorf("%s %w", name, errRaced)
		}
	default:
		f.entry = entry{path: name, kind: kindSpecial}
	}
	return f, err
}

// lookInto reads what of a file is not in its directory, or remembers it.
func (s *scanner) lookInto(ctx context.Context, above *os.File, f *found, info fs.FileInfo) (err error) {
	wanted := s.wants == nil || s.wants(f.path, f.size)
	if h, unchanged := s.recall(f.path, info); unchanged {
		if f.xattrs = h.xattrs; h.bare {
			if f.xattrs, err = s.xattrsOf(f.entry, above, path.Base(f.path)); err != nil {
				return err
			}
		}
		if wanted {
			f.hashed, f.size, f.digest = true, h.size, h.digest
			s.count(1, h.size)
		}
		return nil
	}
	begin := time.Now()
	s.unlocked = false
	if f.xattrs, err = s.xattrsOf(f.entry, above, path.Base(f.path)); err != nil || !wanted {
		return err
	}
	h, err := s.hash(ctx, above, f.path, info, begin)
	if err != nil {
		return err
	}
	h.xattrs = f.xattrs
	s.remember(f.path, h)
	f.hashed, f.size, f.digest = true, h.size, h.digest
	s.count(1, 0)
	return nil
}

// recall returns what is remembered of a file, if that has not changed since.
func (s *scanner) recall(path string, info fs.FileInfo) (h hashed, unchanged bool) {
	fp, ok := fingerprintOf(info)
	if h := s.known[path]; ok && h != nil && h.fp == fp && fp.provenAt(h.at) {
		return *h, true
	}
	return hashed{}, false
}

// provenAt reports whether the times of a file prove that it is what was read at a moment.
// A time of modification that was still to come then was set by somebody, and only the
// other one tells of that, and of what was done since.
func (fp fingerprint) provenAt(at time.Time) bool {
	last := max(fp.mtime, fp.ctime)
	if fp.mtime > at.UnixNano() && fp.ctime != 0 {
		last = fp.ctime
	}
	return at.Add(-quiet).UnixNano() > last
}

// xattrsOf reads the extended attributes of a directory that is open, or of the
// file of that name in it. For its owner it reads them whatever the mode is,
// where the scanner may unlock it.
func (s *scanner) xattrsOf(e entry, dir *os.File, name string) (string, error) {
	if s.keeps&keepXattrs == 0 {
		return "", nil
	}
	attrs, err := readXattrs(dir, name, s.keeps)
	if s.unlock && errors.Is(err, fs.ErrPermission) && s.root.Chmod(e.osPath(), fileMode(e.mode|0o400)) == nil {
		s.unlocked = true
		attrs, err = readXattrs(dir, name, s.keeps)
		err = errors.Join(err, s.root.Chmod(e.osPath(), fileMode(e.mode)))
	}
	if err != nil {
		return "", fmt.Errorf("extended attributes of %s: %w", e.path, err)
	}
	if list, there := attrs[aclAccess]; there {
		attrs[aclAccess] = withMode(list, e.mode)
	}
	encoded, err := encodeXattrs(attrs)
	if err != nil && s.unlock {
		return unknownXattrs, nil // it came from nowhere, and is overwritten
	} else if err != nil {
		return "", fmt.Errorf("%s has %w", e.path, err)
	}
	return encoded, nil
}

// hash computes the digest of a file that is looked at since begin.
func (s *scanner) hash(ctx context.Context, above *os.File, path string, info fs.FileInfo, begin time.Time) (hashed, error) {
	fp, ok := fingerprintOf(info)
	_, n := statOf(info)
	if k, seen := s.linked[n.file]; ok && seen && n.links > 1 && k.fp == fp {
		return k, nil // it was read under another name
	}
	now := hashed{fp: fp, at: begin}
	s.relock(path, &now)
	if !s.small(above, path, info, &now) {
		f, err := s.open(path, info)
		if err != nil {
			return hashed{}, err
		}
		defer f.Close()
		s.relock(path, &now)
		if now.size, now.digest, err = s.read(ctx, f, path, info.Size()); err != nil {
			return hashed{}, fmt.Errorf("reading %s: %w", path, err)
		}
	}
	if n.links > 1 && s.linked != nil {
		s.linked[n.file] = now
	}
	return now, nil
}

// read computes the digest of a file, and makes the list of its chunks where that
// may be of use.
func (s *scanner) read(ctx context.Context, f *os.File, path string, size int64) (int64, digest, error) {
	h := hasher{sha256.New()}
	if s.lists == nil || size < deltaFrom {
		n, err := copyContent(ctx, counted{h, s}, f, -1, s.buf.bytes())
		return n, digest(h.Sum(nil)), err
	}
	class := delta.ClassOf(size)
	if k := s.known[path]; k != nil {
		if was := s.lists.Get(delta.Digest(k.digest)); was != nil {
			class = was.Class().Keep(size)
		}
	}
	l := newLister(h, class, size)
	defer l.close()
	n, err := copyContent(ctx, counted{l, s}, f, -1, s.buf.bytes())
	if err != nil {
		return n, digest{}, err
	}
	sum := digest(h.Sum(nil))
	if list, err := l.list(); err == nil { // else it is sent whole
		s.lists.Put(delta.Digest(sum), list)
	}
	return n, sum, nil
}

// count tells who wants to know of files and bytes.
func (s *scanner) count(files int, bytes int64) {
	if s.seen != nil {
		s.seen(files, bytes)
	}
}

func (s *scanner) remember(path string, h hashed) {
	if s.known == nil {
		s.known = make(map[string]*hashed)
	}
	h.path = path
	s.known[path] = &h
	s.learned++
}

// copyCtx copies from src to dst by way of buf until src's end, limit bytes
// (unless negative) or the end of ctx.
func copyCtx(ctx context.Context, dst io.Writer, src io.Reader, limit int64, buf []byte) (int64, error) {
	var n int64
	for limit < 0 || n < limit {
		if err := ctx.Err(); err != nil {
			return n, err
		}
		chunk := buf
		if limit >= 0 {
			chunk = buf[:min(int64(len(buf)), limit-n)]
		}
		got, err := src.Read(chunk)
		if got > 0 {
			if _, err := dst.Write(chunk[:got]); err != nil {
				return n, err
			}
			n += int64(got)
		}
		if errors.Is(err, io.EOF) {
			return n, nil
		} else if err != nil {
			return n, err
		}
	}
	return n, nil
}
