package replica

import (
	"io/fs"
	"math"
	"time"
)

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

// nanos is a time of a file as it is carried. One that is beyond what fits, before 1678
// or after 2262, counts as the nearest that does.
func nanos(t time.Time) int64 {
	switch s := t.Unix(); {
	case s >= math.MaxInt64/int64(time.Second):
		return math.MaxInt64
	case s <= math.MinInt64/int64(time.Second):
		return math.MinInt64
	}
	return t.UnixNano()
}
