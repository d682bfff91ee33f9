package replica

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"strings"
)

// keeps is a set of what a receiver can keep besides what all of them keep: it
// says so right after the greeting, and the sender leaves out the rest. So both
// sides have the same manifest, and the same digest.
type keeps uint8

// What may be kept, by bits. Their meaning on the wire is in
// docs/sync-protocol.md.
const (
	keepOwners keeps = 1 << iota
	keepSetID
	keepUser
	keepACLs
	keepCapabilities
	keepTrusted
	keepHardLinks

	keepAll = keepHardLinks<<1 - 1
	// keepXattrs is all that xattrKind may say.
	keepXattrs = keepUser | keepACLs | keepCapabilities | keepTrusted

	// readAgain is nothing to keep: it asks the sender to read all of its files
	// again, whatever it remembers of them.
	readAgain keeps = 1 << 7
)

// keepNames are what people call it.
var keepNames = [...]string{
	"owners and groups", "set-ID and sticky bits", "user attributes", "access control lists",
	"capabilities", "trusted attributes", "hard links",
}

func (k keeps) String() string {
	var names []string
	for i, name := range keepNames {
		if k&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}

// needs says what must be kept to keep all of the entry. The sticky bit of
// files, which has no meaning today, needs what the set-ID bits need: some
// systems let root alone set it.
func (e entry) needs() keeps {
	k := xattrKinds(e.xattrs)
	if e.kind == kindHardLink {
		k |= keepHardLinks
	}
	if e.owner.known {
		k |= keepOwners
	}
	if e.mode&(modeSetUID|modeSetGID) != 0 || e.kind == kindFile && e.mode&modeSticky != 0 {
		k |= keepSetID
	}
	return k
}

// only returns the entry without what k does not keep.
func (e entry) only(k keeps) entry {
	if k&keepOwners == 0 {
		// With another owner the bits would give rights to somebody else.
		k &^= keepSetID
		e.owner = owner{}
	}
	if k&keepSetID == 0 {
		e.mode &^= modeSetUID | modeSetGID
		if e.kind == kindFile {
			e.mode &^= modeSticky
		}
	}
	e.xattrs = onlyXattrs(e.xattrs, k)
	return e
}

// Frames of their own. Their numbers stand apart from the others'.
const (
	frameKeeps byte = iota + 32
	frameLeftOut
	frameZeros
	frameHave
	frameCopy
	frameChunks
	frameChunkList
	framePacked
	frameSame
	frameSince
)

// ability is what a receiver says of itself.
type ability struct {
	keeps keeps
	// owner is whose files are that it makes.
	owner owner
	// full asks the sender to read everything again.
	full bool
}

// offer tells the sender what this receiver keeps, and the digest of what its copy
// was, if that is known.
func (w *wire) offer(a ability, base ...byte) error {
	kept := a.keeps
	if a.full {
		kept |= readAgain
	}
	if err := w.write(frameKeeps, []byte{byte(kept)}, appendOwner(nil, a.owner), base); err != nil {
		return err
	}
	return w.flush()
}

// offered reads what the receiver keeps, and what it had; nil where it does not say
// that. Bits that this version does not know are none of its concern.
func (w *wire) offered() (a ability, base *digest, err error) {
	payload, err := w.expect(frameKeeps, -1)
	if err != nil {
		return ability{}, nil, err
	}
	more := w.version >= version3 && len(payload) == 9+len(digest{})
	if len(payload) != 9 && !more {
		return ability{}, nil, unexpected(frameKeeps, len(payload))
	}
	w.mayWrite = true
	c := cutter{rest: payload}
	said := keeps(c.number(1))
	a = ability{keeps: said & keepAll, owner: c.owner(), full: said&readAgain != 0 && w.version >= version3}
	if more {
		had := digest(c.rest)
		base = &had
	}
	return a, base, nil
}

// leftOut says of what the receiver cannot keep how often the source has it,
// and where for the first time. The last one is for what has a path that no entry may
// have.
type leftOut [leftPaths + 1]struct {
	count uint32
	first string
}

// leftPaths is where leftOut says so, and mostLeftPath how much of such a path it has.
const (
	leftPaths    = len(keepNames)
	mostLeftPath = 256
)

// add counts what an entry has.
func (l *leftOut) add(what keeps, path string) {
	for ; what != 0; what &= what - 1 {
		i := bits.TrailingZeros8(uint8(what))
		if l[i].count == 0 {
			l[i].first = path
		}
		l[i].count++
	}
}

// addPaths counts paths that no entry may have.
func (l *leftOut) addPaths(paths []string) {
	if len(paths) > 0 {
		l[leftPaths].count = uint32(len(paths))
		l[leftPaths].first = paths[0][:min(len(paths[0]), mostLeftPath)]
	}
}

// encode returns the payload of a leftOut frame: per thing left out its bit's
// number (1 byte), count (4), length of the path (2), path.
func (l *leftOut) encode() []byte {
	var b []byte
	for i, left := range l {
		if left.count > 0 {
			b = binary.BigEndian.AppendUint32(append(b, byte(i)), left.count)
			b = appendText(b, left.first)
		}
	}
	return b
}

// decodeLeftOut is the reverse of encode.
func decodeLeftOut(payload []byte) (l leftOut, err error) {
	next := 0
	c := cutter{rest: payload}
	for len(c.rest) > 0 {
		i := int(c.number(1))
		if i < next || i >= len(l) {
			return leftOut{}, fmt.Errorf("%w: %d cannot be left out, or not here", ErrProtocol, i)
		}
		next = i + 1
		l[i].count = uint32(c.number(4))
		l[i].first = c.text()
		if c.short || l[i].count == 0 || len(l[i].first) > maxPath {
			return leftOut{}, fmt.Errorf("%w: malformed account of what is left out", ErrProtocol)
		}
	}
	return l, nil
}

// lines describes what was left out, for people.
func (l *leftOut) lines() []string {
	var lines []string
	for i, left := range l {
		name := "what has a path that is too long, too deep or reserved"
		if i < leftPaths {
			name = keepNames[i]
		}
		switch {
		case left.count == 1:
			lines = append(lines, fmt.Sprintf("%s: of %q", name, left.first))
		case left.count > 1:
			lines = append(lines, fmt.Sprintf("%s: of %d entries, first %q", name, left.count, left.first))
		}
	}
	return lines
}
