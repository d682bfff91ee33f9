package torture

import (
	"encoding/binary"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// duplicate makes another file of the same content.
func (c *churner) duplicate() (string, error) {
	at, err := c.file()
	if err != nil {
		return "", err
	}
	b, err := os.ReadFile(at)
	if err != nil {
		return "", err
	}
	to := c.fresh()
	c.entries++
	return at + " as " + to, c.put(to, os.O_CREATE|os.O_TRUNC, b)
}

func (c *churner) chmod() (string, error) {
	at, info, err := c.some()
	if err != nil || info.Mode()&fs.ModeSymlink != 0 {
		return "", errNothing
	}
	mode := uint32(c.random.IntN(0o10000))
	if c.random.IntN(2) == 0 {
		mode &= 0o777
	}
	if !c.root {
		mode = mode&0o777 | 0o700
	}
	return fmt.Sprintf("%s to %o", at, mode), unix.Chmod(at, mode)
}

func (c *churner) chown() (string, error) {
	at, _, err := c.some()
	if err != nil || !c.root {
		return "", errNothing
	}
	return at, os.Lchown(at, c.random.IntN(4)*500, c.random.IntN(4)*500)
}

func (c *churner) touch() (string, error) {
	at, _, err := c.some()
	if err != nil {
		return "", err
	}
	when := time.Unix(c.random.Int64N(1<<32), c.random.Int64N(1e9))
	switch c.random.IntN(4) {
	case 0:
		when = time.Unix(5, 0) // many have the same
	case 1:
		when = time.Now().Add(24 * time.Hour)
	}
	ts := unix.NsecToTimespec(when.UnixNano())
	return at, unix.UtimesNanoAt(unix.AT_FDCWD, at, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
}

// xattr sets an attribute, or takes it away.
func (c *churner) xattr() (string, error) {
	at, info, err := c.some()
	if err != nil || !info.IsDir() && !info.Mode().IsRegular() {
		return "", errNothing
	}
	values := map[string][]byte{"user.a": []byte("1"), "user.long": make([]byte, c.random.IntN(2000)), "user.\xff": nil, "system.posix_acl_access": acl(c.random.IntN(8))}
	if info.IsDir() {
		values["system.posix_acl_default"] = acl(c.random.IntN(8))
	}
	if c.root {
		values["trusted.t"] = []byte{byte(c.random.IntN(4))}
		if info.Mode().IsRegular() {
			values["security.capability"] = capability(uint32(c.random.IntN(4)))
		}
	}
	all := sortedNames(values)
	name := all[c.random.IntN(len(all))]
	if c.random.IntN(4) == 0 {
		return "no " + name + " of " + at, unix.Lremovexattr(at, name)
	}
	return name + " of " + at, unix.Lsetxattr(at, name, values[name], 0)
}

// acl is an access control list as Linux has it: user, another user, group, mask,
// others.
func acl(perm int) []byte {
	b := binary.LittleEndian.AppendUint32(nil, 2)
	for _, e := range [][3]int{{1, 7, -1}, {2, perm, 12}, {4, 5, -1}, {16, 7, -1}, {32, 1, -1}} {
		b = binary.LittleEndian.AppendUint16(b, uint16(e[0]))
		b = binary.LittleEndian.AppendUint16(b, uint16(e[1]))
		b = binary.LittleEndian.AppendUint32(b, uint32(e[2]))
	}
	return b
}

// capability is what makes a program privileged, as Linux has it.
func capability(bits uint32) []byte {
	b := binary.LittleEndian.AppendUint32(nil, 0x02000001)
	for _, n := range []uint32{bits, 0, 0, 0} {
		b = binary.LittleEndian.AppendUint32(b, n)
	}
	return b
}

// flood makes more events than the kernel's queue holds: it puts those of two
// files together only where they follow each other.
func (c *churner) flood() error {
	limit, err := os.ReadFile("/proc/sys/fs/inotify/max_queued_events")
	if err != nil {
		return err
	}
	var n int
	if _, err := fmt.Sscan(string(limit), &n); err != nil {
		return err
	}
	for i := range n + 100 {
		if err := os.Chmod(filepath.Join(c.dir, []string{stays, stays + "2"}[i%2]), 0o600); err != nil {
			return err
		}
	}
	return nil
}
