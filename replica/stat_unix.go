//go:build unix

package replica

import (
	"io/fs"
	"syscall"
)

// onlyDirectory has an open fail for what is no directory.
const onlyDirectory = syscall.O_DIRECTORY

// statOf says what the system knows of an entry that fs.FileInfo does not tell.
func statOf(info fs.FileInfo) (o owner, n node) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return owner{}, node{}
	}
	o = owner{uid: st.Uid, gid: st.Gid, known: true}
	return o, node{file: fileID{uint64(st.Dev), uint64(st.Ino)}, links: uint64(st.Nlink), allocated: int64(st.Blocks) * 512}
}
