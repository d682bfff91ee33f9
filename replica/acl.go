package replica

import "encoding/binary"

// Tags of an access control list's entries, as Linux has them.
const (
	aclOwner = 0x01
	aclGroup = 0x04
	aclMask  = 0x10
	aclOther = 0x20
)

// withMode returns an access control list that says what the mode says, too. The
// kernel sees to that, but the two are not read at the same moment: the mode may
// have been changed between, not least by this program, which unlocks what it has
// to read.
//
// The list is: version (4 bytes), then tag (2), permissions (2), user or group (4)
// of each entry, little endian (linux/posix_acl_xattr.h).
func withMode(list string, mode uint16) string {
	const head, size = 4, 8
	if len(list) < head || (len(list)-head)%size != 0 {
		return list
	}
	b := []byte(list)
	// Where there is a mask, that is what the mode says of the group.
	var group []byte
	for e := b[head:]; len(e) > 0; e = e[size:] {
		switch perm := e[2:4]; binary.LittleEndian.Uint16(e) {
		case aclOwner:
			binary.LittleEndian.PutUint16(perm, mode>>6&7)
		case aclOther:
			binary.LittleEndian.PutUint16(perm, mode&7)
		case aclGroup:
			if group == nil {
				group = perm
			}
		case aclMask:
			group = perm
		}
	}
	if group != nil {
		binary.LittleEndian.PutUint16(group, mode>>3&7)
	}
	return string(b)
}
