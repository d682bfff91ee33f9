package replica

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"slices"
	"strings"
)

// kind says what an entry is.
type kind byte

const (
	kindDir kind = iota + 1
	kindFile
	kindSymlink
	kindSpecial
	kindHardLink
	// kindUnread is what the sender cannot read: what a copy has of it stays.
	kindUnread
)

func (k kind) String() string {
	return [...]string{"nothing", "directory", "file", "symbolic link", "special file", "hard link", "something unreadable"}[k]
}

// noID stands on the wire for an owner that is not carried: no Unix gives it
// to anybody.
const noID = 1<<32 - 1

// owner is the numeric owner and group of an entry. The zero value is none.
type owner struct {
	uid, gid uint32
	known    bool
}

func (o owner) String() string {
	if !o.known {
		return "none"
	}
	return fmt.Sprintf("%d:%d", o.uid, o.gid)
}

// digest is a SHA-256.
type digest [sha256.Size]byte

// The mode bits beside the permissions.
const (
	modeSetUID = 0o4000
	modeSetGID = 0o2000
	modeSticky = 0o1000
	modeMask   = 0o7777
)

// entry is one thing in a volume. On the wire it is: kind (1 byte), length of
// the path (2), path; then for a directory mode (2), owner (4), group (4),
// mtime (8), length of the attributes (2) and the attributes (see xattr.go);
// for a file mode, owner, group, mtime, size (8), digest (32), length of the
// attributes and these; for a symlink owner, group, mtime, length of the target
// (2) and the target; for a hard link length of the target and the target.
type entry struct {
	// path is relative to the volume, with slashes; the volume itself is "".
	path   string
	kind   kind
	mode   uint16
	owner  owner
	mtime  int64 // nanoseconds since 1970
	size   int64
	digest digest
	// target is what a symbolic link says, and of a hard link the path of the
	// file's first name, which comes before it.
	target string
	// xattrs are the extended attributes, encoded.
	xattrs string
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
	b = appendText(b, e.path)
	switch e.kind {
	case kindDir, kindFile:
		b = binary.BigEndian.AppendUint16(b, e.mode)
		b = appendOwner(b, e.owner)
		b = binary.BigEndian.AppendUint64(b, uint64(e.mtime))
		if e.kind == kindFile {
			b = binary.BigEndian.AppendUint64(b, uint64(e.size))
			b = append(b, e.digest[:]...)
		}
		b = appendText(b, e.xattrs)
	case kindSymlink:
		b = appendOwner(b, e.owner)
		b = binary.BigEndian.AppendUint64(b, uint64(e.mtime))
		b = appendText(b, e.target)
	case kindHardLink:
		b = appendText(b, e.target)
	}
	return b
}

func appendText(b []byte, text string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(text))), text...)
}

func appendOwner(b []byte, o owner) []byte {
	if !o.known {
		o.uid, o.gid = noID, noID
	}
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(b, o.uid), o.gid)
}

// cutter takes pieces off the front of what came.
type cutter struct {
	rest  []byte
	short bool // there was less than was to be taken
}

func (c *cutter) take(n int) []byte {
	if len(c.rest) < n {
		c.short = true
		c.rest = nil
		return make([]byte, n)
	}
	taken := c.rest[:n]
	c.rest = c.rest[n:]
	return taken
}

func (c *cutter) number(n int) uint64 {
	var buf [8]byte
	copy(buf[8-n:], c.take(n))
	return binary.BigEndian.Uint64(buf[:])
}

func (c *cutter) text() string { return string(c.take(int(c.number(2)))) }

func (c *cutter) owner() owner {
	o := owner{uid: uint32(c.number(4)), gid: uint32(c.number(4)), known: true}
	if o.uid == noID && o.gid == noID {
		return owner{}
	}
	return o
}

// cutEntry decodes the first entry of b and returns the rest. What the entry
// says is not checked.
func cutEntry(b []byte) (e entry, rest []byte, err error) {
	c := &cutter{rest: b}
	e.kind = kind(c.number(1))
	e.path = c.text()
	switch e.kind {
	case kindDir, kindFile:
		e.mode = uint16(c.number(2))
		e.owner = c.owner()
		e.mtime = int64(c.number(8))
		if e.kind == kindFile {
			e.size = int64(c.number(8))
			copy(e.digest[:], c.take(len(e.digest)))
		}
		e.xattrs = c.text()
	case kindSymlink:
		e.owner = c.owner()
		e.mtime = int64(c.number(8))
		e.target = c.text()
	case kindHardLink:
		e.target = c.text()
	case kindSpecial, kindUnread:
	default:
		return entry{}, nil, fmt.Errorf("%w: entry of unknown kind %d", ErrProtocol, e.kind)
	}
	if c.short {
		return entry{}, nil, fmt.Errorf("%w: entry cut off", ErrProtocol)
	}
	return e, c.rest, nil
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
	switch {
	case e.mode&^modeMask != 0:
		return fmt.Errorf("%q has the mode %o", e.path, e.mode)
	case e.mode&(modeSetUID|modeSetGID) != 0 && !e.owner.known:
		return fmt.Errorf("%q has the mode %o, but no owner", e.path, e.mode)
	case e.owner.known && (e.owner.uid == noID || e.owner.gid == noID):
		return fmt.Errorf("%q has the impossible owner %v", e.path, e.owner)
	case e.size < 0 || e.size > maxFileSize:
		return fmt.Errorf("%q has the size %d, at most %d is carried", e.path, e.size, int64(maxFileSize))
	case e.kind == kindSymlink && (e.target == "" || len(e.target) > maxTarget || strings.IndexByte(e.target, 0) >= 0):
		return fmt.Errorf("%q is a link with an impossible target", e.path)
	}
	if err := checkXattrs(e.xattrs, e.kind); err != nil {
		return fmt.Errorf("%q: %w", e.path, err)
	}
	return nil
}

// manifest is the content of a volume, sorted by path, the volume itself
// first. Parents stand before what they contain.
type manifest struct {
	entries []entry
	// keeps is what entries may have beside what all receivers keep.
	keeps keeps
	dirs  map[string]bool
	bytes int64 // encoded
	total int64 // sizes of files
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
	if e.kind == kindHardLink {
		if file, ok := m.find(e.target); !ok || file.kind != kindFile {
			return fmt.Errorf("%q is another name of %q, which is no file before it", e.path, e.target)
		}
	}
	if more := e.needs() &^ m.keeps; more != 0 {
		return fmt.Errorf("%q has %v, which the receiver cannot keep", e.path, more)
	}
	m.bytes += int64(len(e.path) + len(e.target) + len(e.xattrs) + 64)
	m.total += e.size
	if len(m.entries) >= maxEntries || m.bytes > maxManifestBytes || m.total < 0 {
		return fmt.Errorf("the volume has more than %d entries, %d bytes of names and attributes, or %d bytes of content",
			maxEntries, maxManifestBytes, int64(1<<63-1))
	}
	if e.kind == kindDir {
		m.dirs[e.path] = true
	}
	// Neighbours often have the same attributes, inherited from their directory.
	if n := len(m.entries); n > 0 && m.entries[n-1].xattrs == e.xattrs {
		e.xattrs = m.entries[n-1].xattrs
	}
	m.entries = append(m.entries, e)
	return nil
}

// find returns the entry at a path.
func (m *manifest) find(path string) (entry, bool) {
	i, ok := slices.BinarySearchFunc(m.entries, path, func(e entry, path string) int { return strings.Compare(e.path, path) })
	if !ok {
		return entry{}, false
	}
	return m.entries[i], true
}

// hasMore reports whether there is something that another manifest does not have.
func (m *manifest) hasMore(than *manifest) bool {
	return slices.ContainsFunc(m.entries, func(e entry) bool {
		_, there := than.find(e.path)
		return !there && e.kind != kindSpecial
	})
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
	sum := newTreeSum()
	for i := range m.entries {
		sum.add(m.entries[i])
	}
	return sum.digest()
}

// treeSum computes the digest of a manifest, entry by entry.
type treeSum struct {
	hash hash.Hash
	buf  []byte
}

func newTreeSum() *treeSum {
	s := &treeSum{hash: sha256.New()}
	s.hash.Write([]byte("budgie volume 2\n"))
	return s
}

func (s *treeSum) add(e entry) {
	if e.kind != kindSpecial {
		s.buf = appendEntry(s.buf[:0], e)
		s.hash.Write(s.buf)
	}
}

func (s *treeSum) digest() digest { return digest(s.hash.Sum(nil)) }

// report describes the volume.
func (m *manifest) report() Report {
	d := m.digest()
	r := Report{Bytes: m.total, Digest: "sha256:" + hex.EncodeToString(d[:])}
	for _, e := range m.entries[min(1, len(m.entries)):] {
		if e.kind == kindSpecial || e.kind == kindUnread {
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
		case x.kind == kindHardLink && x.target != y.target:
			return fmt.Sprintf("%q is another name of %q instead of %q", x.path, y.target, x.target)
		case x.digest != y.digest || x.target != y.target:
			return fmt.Sprintf("%q has another content", x.path)
		case x.owner != y.owner:
			return fmt.Sprintf("%q has the owner %v instead of %v", x.path, y.owner, x.owner)
		case x.xattrs != y.xattrs:
			return fmt.Sprintf("%q has other extended attributes: %s", x.path, differentXattr(x.xattrs, y.xattrs))
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
	special := func(e entry) bool { return e.kind == kindSpecial }
	if !slices.ContainsFunc(m.entries, special) {
		return slices.Clip(m.entries) // most have none, and a large one is not kept twice
	}
	return slices.DeleteFunc(slices.Clone(m.entries), special)
}
