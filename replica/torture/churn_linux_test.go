package torture

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// stays is a file that no change concerns: a source never is empty.
const stays = "stays"

// names are few, so that they meet again, and odd.
var names = []string{
	"a", "b", "B", "c.txt", "-rf", " ", "new\nline", "quote'\"`$(x)", "back\\slash", "\xff\xfe\x80", "e\u0301", "\u00e9", "...", ".hidden",
	".budgie-sync-", ".tmp-1", "%2e%2e", "*", strings.Repeat("n", 255),
}

// churner changes a tree at random. What cannot be done is left.
type churner struct {
	random *rand.Rand
	dir    string
	// outside are paths out of the tree, for links to lead to.
	outside []string
	// root says that owners and the like can be changed.
	root bool
	// entries is about how many there are, deeds what was done, the last ones.
	entries int
	deeds   []string
}

// most is how many entries a tree has, about.
const most = 700

// do makes a number of changes.
func (c *churner) do(n int) {
	for range n {
		c.one()
	}
}

func (c *churner) one() {
	deed := changes[c.random.IntN(len(changes))]
	if c.entries > most && c.random.IntN(2) == 0 {
		deed = change{"remove a tree", (*churner).removeTree}
	}
	what, err := deed.do(c)
	if err != nil {
		return
	}
	c.deeds = append(c.deeds, fmt.Sprintf("%s %s %s", time.Now().Format("05.000"), deed.name, strings.ReplaceAll(what, c.dir+"/", "")))
	c.deeds = c.deeds[max(0, len(c.deeds)-200):]
}

// change is something that happens to a tree. It returns to what.
type change struct {
	name string
	do   func(*churner) (string, error)
}

var changes = []change{
	{"create", (*churner).create}, {"create", (*churner).create}, {"create", (*churner).create},
	{"replace", (*churner).replace}, {"write", (*churner).write}, {"write", (*churner).write},
	{"append", (*churner).appendTo}, {"truncate", (*churner).truncate}, {"sparse", (*churner).sparse},
	{"mkdir", (*churner).mkdir}, {"mkdir", (*churner).mkdir}, {"deep", (*churner).deep}, {"tree", (*churner).tree},
	{"rename", (*churner).rename}, {"rename", (*churner).rename}, {"rename over", (*churner).renameOver}, {"rename over", (*churner).renameOver},
	{"exchange", (*churner).exchange}, {"link", (*churner).hardLink}, {"link", (*churner).hardLink}, {"symlink", (*churner).symlink},
	{"copy", (*churner).duplicate}, {"chmod", (*churner).chmod}, {"chown", (*churner).chown}, {"xattr", (*churner).xattr}, {"touch", (*churner).touch},
	{"remove", (*churner).remove}, {"remove", (*churner).remove}, {"remove a tree", (*churner).removeTree},
}

var errNothing = errors.New("there is nothing of the kind")

// some returns an entry, mostly near the top.
func (c *churner) some() (string, fs.FileInfo, error) {
	at := c.dir
	for {
		entries, err := os.ReadDir(at)
		if err != nil || len(entries) == 0 {
			return "", nil, errNothing
		}
		e := entries[c.random.IntN(len(entries))]
		at = filepath.Join(at, e.Name())
		if strings.HasPrefix(at, filepath.Join(c.dir, stays)) {
			return "", nil, errNothing
		}
		if !e.IsDir() || c.random.IntN(3) == 0 {
			info, err := os.Lstat(at)
			return at, info, err
		}
	}
}

// file returns a regular file.
func (c *churner) file() (string, error) {
	for range 8 {
		if at, info, err := c.some(); err == nil && info.Mode().IsRegular() {
			return at, nil
		}
	}
	return "", errNothing
}

// fresh returns a name in a directory, mostly one that is not taken.
func (c *churner) fresh() string {
	dir := c.dir
	for range 4 {
		if at, info, err := c.some(); err == nil && info.IsDir() {
			dir = at
			break
		}
	}
	name := names[c.random.IntN(len(names))]
	if c.random.IntN(2) == 0 {
		name = fmt.Sprintf("%.200s%d", name, c.random.IntN(40))
	}
	return filepath.Join(dir, name)
}

// bytes returns content: mostly little, now and then what was there before.
func (c *churner) bytes() []byte {
	size := 1 << c.random.IntN(13)
	if c.random.IntN(20) == 0 {
		size = 1 << (13 + c.random.IntN(8))
	}
	b := make([]byte, c.random.IntN(size+1))
	if c.random.IntN(4) == 0 {
		for i := range b {
			b[i] = byte('a' + len(b)%7)
		}
		return b
	}
	for i := 0; i+8 <= len(b); i += 8 {
		binary.NativeEndian.PutUint64(b[i:], c.random.Uint64())
	}
	return b
}

// open never follows a link, which may lead out of the tree.
func open(at string, flag int) (*os.File, error) {
	return os.OpenFile(at, flag|syscall.O_NOFOLLOW, 0o600|os.FileMode(len(at)%64))
}

func (c *churner) put(at string, flag int, b []byte) error {
	f, err := open(at, flag|os.O_WRONLY)
	if err != nil {
		return err
	}
	// In pieces, so that it may be read in the middle.
	for len(b) > 0 && err == nil {
		n := min(len(b), 1+c.random.IntN(len(b)))
		_, err = f.Write(b[:n])
		b = b[n:]
	}
	return errors.Join(err, f.Close())
}

func (c *churner) create() (string, error) {
	at := c.fresh()
	c.entries++
	return at, c.put(at, os.O_CREATE|os.O_TRUNC, c.bytes())
}

// replace does what editors do.
func (c *churner) replace() (string, error) {
	at, err := c.file()
	if err != nil {
		return "", err
	}
	temporary := filepath.Join(filepath.Dir(at), ".swap")
	if err := c.put(temporary, os.O_CREATE|os.O_TRUNC, c.bytes()); err != nil {
		return "", err
	}
	return at, os.Rename(temporary, at)
}

func (c *churner) write() (string, error) {
	at, err := c.file()
	if err != nil {
		return "", err
	}
	f, err := open(at, os.O_WRONLY)
	if err != nil {
		return "", err
	}
	info, err := f.Stat()
	if err == nil {
		_, err = f.WriteAt(c.bytes(), c.random.Int64N(info.Size()+1))
	}
	if err == nil && c.random.IntN(4) == 0 { // as if nothing had happened
		err = os.Chtimes(at, time.Time{}, info.ModTime())
	}
	return at, errors.Join(err, f.Close())
}

func (c *churner) appendTo() (string, error) {
	at, err := c.file()
	if err != nil {
		return "", err
	}
	return at, c.put(at, os.O_APPEND, c.bytes())
}

func (c *churner) truncate() (string, error) {
	at, err := c.file()
	if err != nil {
		return "", err
	}
	return at, os.Truncate(at, c.random.Int64N(1<<c.random.IntN(18)))
}

func (c *churner) sparse() (string, error) {
	at := c.fresh()
	f, err := open(at, os.O_CREATE|os.O_WRONLY)
	if err != nil {
		return "", err
	}
	c.entries++
	_, err = f.WriteAt(c.bytes(), c.random.Int64N(4<<20))
	if c.random.IntN(2) == 0 {
		err = errors.Join(err, f.Truncate(c.random.Int64N(8<<20)))
	}
	return at, errors.Join(err, f.Close())
}

func (c *churner) mkdir() (string, error) {
	at := c.fresh()
	c.entries++
	return at, os.Mkdir(at, 0o755)
}

// deep makes directories below each other.
func (c *churner) deep() (string, error) {
	at := c.fresh()
	if strings.Count(at, "/") > 60 || c.random.IntN(4) > 0 {
		return "", errNothing
	}
	n := 5 + c.random.IntN(20)
	c.entries += n
	if err := os.Mkdir(at, 0o755); err != nil { // it may be a link that leads out
		return "", err
	}
	at = filepath.Join(at, strings.Repeat("d/", n))
	if err := os.MkdirAll(at, 0o755); err != nil {
		return "", err
	}
	return at, c.put(filepath.Join(at, "f"), os.O_CREATE, c.bytes())
}

// tree makes a directory with much in it.
func (c *churner) tree() (string, error) {
	at := c.fresh()
	if c.random.IntN(3) > 0 {
		return "", errNothing
	}
	if err := os.Mkdir(at, 0o755); err != nil {
		return "", err
	}
	for i := range c.random.IntN(60) {
		dir := filepath.Join(at, fmt.Sprint("sub", i%7))
		_ = os.Mkdir(dir, 0o755) // it may be there
		if err := c.put(filepath.Join(dir, fmt.Sprint(i)), os.O_CREATE, c.bytes()); err != nil {
			return "", err
		}
		c.entries++
	}
	return at, nil
}

func (c *churner) rename() (string, error) {
	at, _, err := c.some()
	if err != nil {
		return "", err
	}
	to := c.fresh()
	return at + " to " + to, os.Rename(at, to)
}

func (c *churner) renameOver() (string, error) {
	at, info, err := c.some()
	if err != nil {
		return "", err
	}
	to, over, err := c.some()
	if err != nil {
		return "", err
	}
	if info.IsDir() && over.IsDir() { // has to be empty
		if entries, err := os.ReadDir(to); err != nil || len(entries) > 5 || strings.HasPrefix(at, to) || os.RemoveAll(to) != nil || os.Mkdir(to, 0o700) != nil {
			return "", errNothing
		}
	}
	return at + " over " + to, os.Rename(at, to)
}

func (c *churner) exchange() (string, error) {
	at, _, err := c.some()
	if err != nil {
		return "", err
	}
	to, _, err := c.some()
	if err != nil {
		return "", err
	}
	return at + " and " + to, unix.Renameat2(unix.AT_FDCWD, at, unix.AT_FDCWD, to, unix.RENAME_EXCHANGE)
}

func (c *churner) hardLink() (string, error) {
	at, err := c.file()
	if err != nil {
		return "", err
	}
	to := c.fresh()
	c.entries++
	return at + " as " + to, os.Link(at, to)
}

func (c *churner) symlink() (string, error) {
	targets := append([]string{".", "..", "/", "a", "../b", "/nowhere", "loop", "\xff", strings.Repeat("../", 40) + "etc", strings.Repeat("x", 2000)}, c.outside...)
	target := targets[c.random.IntN(len(targets))]
	at := c.fresh()
	c.entries++
	return fmt.Sprintf("%s to %.80s", at, target), os.Symlink(target, at)
}

func (c *churner) remove() (string, error) {
	at, info, err := c.some()
	if err != nil || info.IsDir() {
		return "", errNothing
	}
	c.entries--
	return at, os.Remove(at)
}

func (c *churner) removeTree() (string, error) {
	at, info, err := c.some()
	if err != nil || !info.IsDir() {
		return "", errNothing
	}
	err = os.RemoveAll(at)
	c.count()
	return at, err
}

// count counts what there is.
func (c *churner) count() {
	c.entries = 0
	_ = filepath.WalkDir(c.dir, func(string, fs.DirEntry, error) error {
		c.entries++
		return nil
	})
}
