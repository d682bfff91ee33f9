package replica

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"os"
	"path"
	"time"
)

// flushEvery is how many bytes of a file are written before the disk is to begin
// with them.
const flushEvery = 16 << 20

// incoming is a file under way to its place.
type incoming struct {
	target *target
	entry  entry
	name   string // of the temporary file
	file   *os.File
	hash   hash.Hash
	hasher *helper // has hash take what is written; nil for small files
	holes  bool    // there are some, perhaps at the end
	// unflushed is how much was written since flush last did something.
	unflushed int64
}

// create begins a file for e.
func (t *target) create(e entry) (*incoming, error) {
	dir, err := t.stage(e.path)
	if err != nil {
		return nil, err
	}
	name := path.Join(dir, temporaryName())
	f, err := t.root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	t.temporary[name] = true
	t.renamedIn(dir)
	c := &incoming{target: t, entry: e, name: name, file: f, hash: sha256.New()}
	if e.size >= apartFrom {
		c.hasher = newHelper(func(p []byte) { c.hash.Write(p) })
	}
	return c, nil
}

func temporaryName() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return temporaryPrefix + hex.EncodeToString(b[:])
}

// Write appends to the file.
func (c *incoming) Write(p []byte) (int, error) {
	if c.hasher == nil {
		c.hash.Write(p)
		return c.file.Write(p)
	}
	c.hasher.begin(p)
	defer c.hasher.wait()
	n, err := c.file.Write(p)
	c.flush(int64(n))
	return n, err
}

// flush has the disk begin with what was written, a while before sync waits for
// it.
func (c *incoming) flush(n int64) {
	if c.unflushed += n; c.unflushed >= flushEvery {
		beginWriting(c.file)
		c.unflushed = 0
	}
}

// digest returns the digest of what was written. Nothing is written afterwards.
func (c *incoming) digest() digest {
	c.hasher.end()
	return digest(c.hash.Sum(nil))
}

// accept verifies the file, and has it brought into place with its batch: once that is
// durable, while the next one arrives.
func (c *incoming) accept() error {
	if got := c.digest(); got != c.entry.digest {
		return fmt.Errorf("%w: content with the digest %x arrived, %x was announced", ErrVerify, got, c.entry.digest)
	}
	if err := c.seal(); err != nil {
		return err
	}
	c.target.arrived = append(c.target.arrived, c)
	if len(c.target.arrived) < batch {
		return nil
	}
	return c.target.settleBatch()
}

// seal gives the file all but its name and its content.
func (c *incoming) seal() error {
	if c.holes {
		if err := c.file.Truncate(c.entry.size); err != nil {
			return err
		}
	}
	return c.target.dress(c.file, c.name, c.entry)
}

// sync makes the file durable, and closes it.
func (c *incoming) sync() error {
	if c.file == nil {
		return nil // it is another name of what is durable
	}
	return errors.Join(c.file.Sync(), c.close())
}

// close closes the file.
func (c *incoming) close() error {
	if c.file == nil {
		return nil
	}
	err := c.file.Close()
	c.file = nil
	return err
}

// place moves the sealed file into place, or leaves it beside.
func (c *incoming) place() error {
	t, e := c.target, c.entry
	if err := t.makeWay(e.path); err != nil {
		return err
	}
	if t.blocked(e.path) {
		t.staged[e.path] = c.name
		t.placed[e.digest] = c.name
	} else {
		if err := t.move(c.name, e); err != nil {
			return err
		}
		if c.hash != nil {
			t.note(e)
		}
		t.placed[e.digest] = e.path
	}
	c.name = ""
	return nil
}

// note remembers the digest of a file that this Receive wrote, and moved into place a
// moment ago, so that it need not be read for it. Its name was a secret before; whoever
// wrote into it since gave it another time of modification, except where the source's
// is of these very moments.
func (t *target) note(e entry) {
	info, err := t.root.Lstat(e.path)
	if err != nil || !info.Mode().IsRegular() || info.Size() != e.size || nanos(info.ModTime()) != e.mtime || time.Until(info.ModTime()) > -quiet {
		return
	}
	if fp, ok := fingerprintOf(info); ok {
		// From now on its times prove what it is, as those of one that was left alone do.
		at := time.Unix(0, max(fp.mtime, fp.ctime)).Add(quiet + 1)
		t.scanner.remember(e.path, hashed{fp: fp, size: e.size, digest: e.digest, at: at, bare: true})
	}
}

// discard removes the file, if it was not placed.
func (c *incoming) discard() {
	c.hasher.end()
	_ = c.close() // it is not wanted
	if c.name != "" && c.target.root.Remove(c.name) == nil {
		delete(c.target.temporary, c.name)
		c.name = ""
	}
}
