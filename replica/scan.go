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
	"syscall"
	"time"
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

// hashed is a digest once computed.
type hashed struct {
	fp     fingerprint
	size   int64
	digest digest
	at     time.Time // before the first byte was read
}

// scanner looks at a tree.
type scanner struct {
	root *os.Root
	// known are the digests computed so far, by path.
	known map[string]hashed
	// wants says which sizes of files are worth hashing; nil means all.
	wants func(size int64) bool
	// unlock lets the scanner read what the modes forbid their owner, by
	// changing them for a moment.
	unlock bool
	// temporary are the files under way that were found; they are not part of
	// the tree.
	temporary []found
	buf       buffer
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
	hashed bool
}

// scan lists the tree, sorted by path, the root first.
func (s *scanner) scan(ctx context.Context) ([]found, error) {
	s.temporary = nil
	all, err := s.visit(ctx, nil, "")
	if err != nil {
		return nil, err
	}
	slices.SortFunc(all, func(a, b found) int { return cmp.Compare(a.path, b.path) })
	return all, nil
}

// visit appends what is at path and below. What vanishes meanwhile was not
// there.
func (s *scanner) visit(ctx context.Context, all []found, name string) ([]found, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var f found
	var err error
	for range scanAttempts {
		f, err = s.look(ctx, name)
		if !errors.Is(err, errRaced) {
			break
		}
	}
	switch {
	case missing(err) && name != "":
		return all, nil
	case errors.Is(err, errRaced):
		return nil, fmt.Errorf("%w: %w", ErrChanged, err)
	case err != nil:
		return nil, err
	case f.kind != kindDir && isTemporary(path.Base(name)):
		s.temporary = append(s.temporary, f)
		return all, nil
	}
	all = append(all, f)
	if f.kind != kindDir {
		return all, nil
	}
	names, lock, err := s.list(f.entry)
	if missing(err) {
		return all, nil
	} else if err != nil {
		return nil, err
	}
	defer lock()
	for _, child := range names {
		if all, err = s.visit(ctx, all, path.Join(name, child)); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// missing is true for errors of names that lead to nothing, or not any more
// through a directory.
func missing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// list returns the names in a directory, and a function that takes back the
// permissions that this needed.
func (s *scanner) list(dir entry) (names []string, lock func(), err error) {
	lock = func() {}
	if s.unlock && dir.mode&0o500 != 0o500 {
		if err := s.root.Chmod(dir.osPath(), fileMode(dir.mode|0o700)); err == nil {
			lock = func() { _ = s.root.Chmod(dir.osPath(), fileMode(dir.mode)) }
		}
	}
	f, err := s.root.Open(dir.osPath())
	if err == nil {
		names, err = f.Readdirnames(-1)
		_ = f.Close()
	}
	if err != nil {
		lock()
		return nil, nil, err
	}
	return names, lock, nil
}

// look describes what is at path.
func (s *scanner) look(ctx context.Context, path string) (found, error) {
	info, err := s.root.Lstat(osPath(path))
	if err != nil {
		return found{}, err
	}
	f := found{entry: entry{path: path, mode: uint16(info.Mode().Perm()), mtime: info.ModTime().UnixNano()}}
	switch info.Mode().Type() {
	case fs.ModeDir:
		f.kind = kindDir
		if info.Mode()&fs.ModeSticky != 0 {
			f.mode |= modeSticky
		}
	case 0:
		f.kind, f.size = kindFile, info.Size()
		if s.wants == nil || s.wants(f.size) {
			f.hashed = true
			f.size, f.digest, err = s.hash(ctx, path, info)
		}
	case fs.ModeSymlink:
		f.entry = entry{path: path, kind: kindSymlink}
		f.target, err = s.root.Readlink(path)
		if errors.Is(err, syscall.EINVAL) {
			err = fmt.Errorf("%s %w", path, errRaced)
		}
	default:
		f.entry = entry{path: path, kind: kindSpecial}
	}
	return f, err
}

// hash computes the digest of a file, or remembers it.
func (s *scanner) hash(ctx context.Context, path string, info fs.FileInfo) (int64, digest, error) {
	fp, ok := fingerprintOf(info)
	if k, known := s.known[path]; ok && known && k.fp == fp && k.at.Add(-quiet).UnixNano() > max(fp.mtime, fp.ctime) {
		return k.size, k.digest, nil
	}
	now := hashed{fp: fp, at: time.Now()}
	f, err := s.open(path, info)
	if err != nil {
		return 0, digest{}, err
	}
	defer f.Close()
	h := sha256.New()
	if now.size, err = copyCtx(ctx, h, f, -1, s.buf.bytes()); err != nil {
		return 0, digest{}, fmt.Errorf("reading %s: %w", path, err)
	}
	now.digest = digest(h.Sum(nil))
	if s.known == nil {
		s.known = make(map[string]hashed)
	}
	s.known[path] = now
	return now.size, now.digest, nil
}

// open opens a file for reading, for its owner whatever its mode where the
// scanner may unlock it.
func (s *scanner) open(path string, info fs.FileInfo) (*os.File, error) {
	f, err := openRegular(s.root, path, info)
	if !s.unlock || !errors.Is(err, fs.ErrPermission) {
		return f, err
	}
	if err := s.root.Chmod(path, info.Mode().Perm()|0o400); err != nil {
		return nil, err
	}
	f, err = openRegular(s.root, path, info)
	if locked := s.root.Chmod(path, info.Mode().Perm()); err == nil {
		err = locked
	}
	return f, err
}

// openRegular opens the file that info describes. It never blocks on what took
// its place.
func openRegular(root *os.Root, path string, info fs.FileInfo) (*os.File, error) {
	f, err := root.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	now, err := f.Stat()
	if err == nil && !(now.Mode().IsRegular() && os.SameFile(now, info)) {
		err = fmt.Errorf("%s %w", path, errRaced)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// fileMode turns carried mode bits into the os package's.
func fileMode(mode uint16) fs.FileMode {
	m := fs.FileMode(mode & 0o777)
	if mode&modeSticky != 0 {
		m |= fs.ModeSticky
	}
	return m
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
