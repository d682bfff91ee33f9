package replica

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
)

// kind says what an entry is.
type kind byte

const (
	kindDir kind = iota + 1
	kindFile
	kindSymlink
	kindSpecial
)

func (k kind) String() string {
	return [...]string{"nothing", "directory", "file", "symbolic link", "special file"}[k]
}

// digest is a SHA-256.
type digest [sha256.Size]byte

// modeMask are the mode bits that are carried. Set-user-ID and set-group-ID
// are not: without the owner they would give a program to somebody else.
const modeMask = 0o777 | modeSticky

// modeSticky is carried for directories.
const modeSticky = 0o1000

// entry is one thing in a volume. On the wire it is: kind (1 byte), length of
// the path (2), path; then for a directory mode (2) and mtime (8); for a file
// mode, mtime, size (8) and digest (32); for a symlink the length of the
// target (2) and the target.
type entry struct {
	// path is relative to the volume, with slashes; the volume itself is "".
	path   string
	kind   kind
	mode   uint16
	mtime  int64 // nanoseconds since 1970
	size   int64
	digest digest
	target string
}

// osPath is the path as os.Root wants it.
func (e entry) osPath() string { return osPath(e.path) }

func osPath(path string) string {
	if path == "" {
		return "."
	}
	return path
}

// parent is the path of the directory that holds path.
func parent(path string) string {
	return path[:max(0, strings.LastIndexByte(path, '/'))]
}

// appendEntry encodes e.
func appendEntry(b []byte, e entry) []byte {
	b = append(b, byte(e.kind))
	b = binary.BigEndian.AppendUint16(b, uint16(len(e.path)))
	b = append(b, e.path...)
	switch e.kind {
	case kindDir, kindFile:
		b = binary.BigEndian.AppendUint16(b, e.mode)
		b = binary.BigEndian.AppendUint64(b, uint64(e.mtime))
		if e.kind == kindFile {
			b = binary.BigEndian.AppendUint64(b, uint64(e.size))
			b = append(b, e.digest[:]...)
		}
	case kindSymlink:
		b = binary.BigEndian.AppendUint16(b, uint16(len(e.target)))
		b = append(b, e.target...)
	}
	return b
}

// cutEntry decodes the first entry of b and returns the rest. What the entry
// says is not checked.
func cutEntry(b []byte) (e entry, rest []byte, err error) {
	ok := true
	take := func(n int) []byte {
		if len(b) < n {
			ok = false
			return make([]byte, n)
		}
		taken := b[:n]
		b = b[n:]
		return taken
	}
	number := func(n int) uint64 {
		var buf [8]byte
		copy(buf[8-n:], take(n))
		return binary.BigEndian.Uint64(buf[:])
	}
	e.kind = kind(number(1))
	e.path = string(take(int(number(2))))
	switch e.kind {
	case kindDir, kindFile:
		e.mode = uint16(number(2))
		e.mtime = int64(number(8))
		if e.kind == kindFile {
			e.size = int64(number(8))
			copy(e.digest[:], take(len(e.digest)))
		}
	case kindSymlink:
		e.target = string(take(int(number(2))))
	case kindSpecial:
	default:
		return entry{}, nil, fmt.Errorf("%w: entry of unknown kind %d", ErrProtocol, e.kind)
	}
	if !ok {
		return entry{}, nil, fmt.Errorf("%w: entry cut off", ErrProtocol)
	}
	return e, b, nil
}

// temporaryPrefix begins the names of files under way.
const temporaryPrefix = ".budgie-sync-"

// isTemporary tells the names of files under way, which are never part of a
// volume, from all others.
func isTemporary(name string) bool {
	random, ok := strings.CutPrefix(name, temporaryPrefix)
	return ok && len(random) == 32 && strings.Trim(random, "0123456789abcdef") == ""
}

// checkPath says what is wrong with a path of a volume. The volume itself is
// not meant.
func checkPath(path string) error {
	if len(path) > maxPath {
		return fmt.Errorf("path of %d bytes, at most %d are carried", len(path), maxPath)
	}
	if strings.IndexByte(path, 0) >= 0 {
		return fmt.Errorf("path %q contains a NUL", path)
	}
	depth := 0
	for name := range strings.SplitSeq(path, "/") {
		depth++
		switch {
		case name == "" || name == "." || name == "..":
			return fmt.Errorf("path %q is not below the volume", path)
		case len(name) > maxName:
			return fmt.Errorf("path %q has a name of more than %d bytes", path, maxName)
		case isTemporary(name):
			return fmt.Errorf("path %q has a name that is reserved for files under way", path)
		}
	}
	if depth > maxDepth {
		return fmt.Errorf("path %q is more than %d directories deep", path, maxDepth)
	}
	return nil
}

// check says what is wrong with an entry, its path apart.
func (e entry) check() error {
	mask := uint16(modeMask)
	if e.kind == kindFile {
		mask &^= modeSticky
	}
	switch {
	case e.mode&^mask != 0:
		return fmt.Errorf("%q has the mode %o", e.path, e.mode)
	case e.size < 0 || e.size > maxFileSize:
		return fmt.Errorf("%q has the size %d, at most %d is carried", e.path, e.size, int64(maxFileSize))
	case e.kind == kindSymlink && (e.target == "" || len(e.target) > maxTarget || strings.IndexByte(e.target, 0) >= 0):
		return fmt.Errorf("%q is a link with an impossible target", e.path)
	}
	return nil
}

// manifest is the content of a volume, sorted by path, the volume itself
// first. Parents stand before what they contain.
type manifest struct {
	entries []entry
	dirs    map[string]bool
	bytes   int64 // encoded
	total   int64 // sizes of files
}

// add appends the next entry, which the rules must allow.
func (m *manifest) add(e entry) error {
	if len(m.entries) == 0 {
		if e.path != "" || e.kind != kindDir {
			return fmt.Errorf("the first entry is not the volume")
		}
		m.dirs = make(map[string]bool)
	} else {
		if err := checkPath(e.path); err != nil {
			return err
		}
		if last := m.entries[len(m.entries)-1].path; e.path <= last {
			return fmt.Errorf("%q after %q is out of order", e.path, last)
		}
		if !m.dirs[parent(e.path)] {
			return fmt.Errorf("%q is in no directory of the volume", e.path)
		}
	}
	if err := e.check(); err != nil {
		return err
	}
	m.bytes += int64(len(e.path) + len(e.target) + 64)
	m.total += e.size
	if len(m.entries) >= maxEntries || m.bytes > maxManifestBytes || m.total < 0 {
		return fmt.Errorf("the volume has more than %d entries, %d bytes of names, or %d bytes of content",
			maxEntries, maxManifestBytes, int64(1<<63-1))
	}
	if e.kind == kindDir {
		m.dirs[e.path] = true
	}
	m.entries = append(m.entries, e)
	return nil
}

// addFrame decodes a frame of entries and adds them.
func (m *manifest) addFrame(payload []byte) error {
	if len(payload) == 0 {
		return fmt.Errorf("%w: empty frame of entries", ErrProtocol)
	}
	for len(payload) > 0 {
		e, rest, err := cutEntry(payload)
		if err != nil {
			return err
		}
		if err := m.add(e); err != nil {
			return fmt.Errorf("%w: %w", ErrProtocol, err)
		}
		payload = rest
	}
	return nil
}

// digest identifies the content: SHA-256 over a heading and the encoded
// entries, special files left out.
func (m *manifest) digest() digest {
	h := sha256.New()
	h.Write([]byte("budgie volume 1\n"))
	var buf []byte
	for _, e := range m.entries {
		if e.kind != kindSpecial {
			buf = appendEntry(buf[:0], e)
			h.Write(buf)
		}
	}
	return digest(h.Sum(nil))
}

// report describes the volume.
func (m *manifest) report() Report {
	d := m.digest()
	r := Report{Bytes: m.total, Digest: "sha256:" + hex.EncodeToString(d[:])}
	for _, e := range m.entries[min(1, len(m.entries)):] {
		if e.kind == kindSpecial {
			r.Skipped = append(r.Skipped, e.path)
		} else {
			r.Files++
		}
	}
	return r
}

// difference describes the first difference of two volumes, for people.
func (m *manifest) difference(other *manifest) string {
	a, b := m.withoutSpecial(), other.withoutSpecial()
	for i := range min(len(a), len(b)) {
		x, y := a[i], b[i]
		if bytes.Equal(appendEntry(nil, x), appendEntry(nil, y)) {
			continue
		}
		switch {
		case x.path < y.path:
			return fmt.Sprintf("%q is missing", x.path)
		case x.path > y.path:
			return fmt.Sprintf("%q should not be there", y.path)
		case x.kind != y.kind:
			return fmt.Sprintf("%q is a %s instead of a %s", x.path, y.kind, x.kind)
		case x.digest != y.digest || x.target != y.target:
			return fmt.Sprintf("%q has another content", x.path)
		case x.mode != y.mode:
			return fmt.Sprintf("%q has the mode %o instead of %o", x.path, y.mode, x.mode)
		default:
			return fmt.Sprintf("%q has the modification time %d ns instead of %d ns", x.path, y.mtime, x.mtime)
		}
	}
	switch {
	case len(a) > len(b):
		return fmt.Sprintf("%q is missing", a[len(b)].path)
	case len(b) > len(a):
		return fmt.Sprintf("%q should not be there", b[len(a)].path)
	}
	return "no difference"
}

func (m *manifest) withoutSpecial() []entry {
	var kept []entry
	for _, e := range m.entries {
		if e.kind != kindSpecial {
			kept = append(kept, e)
		}
	}
	return kept
}
