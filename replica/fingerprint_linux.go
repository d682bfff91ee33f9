package replica

import (
	"io/fs"
	"syscall"
)

// fingerprintOf tells files and their versions apart. It is false where the
// system does not say enough, and files are read again instead.
func fingerprintOf(info fs.FileInfo) (fingerprint, bool) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fingerprint{}, false
	}
	return fingerprint{uint64(st.Dev), st.Ino, info.Size(), nanos(info.ModTime()), st.Ctim.Nano()}, true
}
