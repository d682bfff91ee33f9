package replica

import "io/fs"

// special are the mode bits beside the permissions, in the os package's terms.
var special = [...]struct {
	bit  uint16
	mode fs.FileMode
}{{modeSetUID, fs.ModeSetuid}, {modeSetGID, fs.ModeSetgid}, {modeSticky, fs.ModeSticky}}

// fileMode turns carried mode bits into the os package's.
func fileMode(mode uint16) fs.FileMode {
	m := fs.FileMode(mode & 0o777)
	for _, s := range special {
		if mode&s.bit != 0 {
			m |= s.mode
		}
	}
	return m
}

// modeOf is the reverse of fileMode.
func modeOf(m fs.FileMode) uint16 {
	mode := uint16(m.Perm())
	for _, s := range special {
		if m&s.mode != 0 {
			mode |= s.bit
		}
	}
	return mode
}
