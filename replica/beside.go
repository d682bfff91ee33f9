package replica

import (
	"crypto/sha256"
	"errors"
	"io/fs"
	"os"
	"time"
)

// beside is what is kept beside a copy, with its name and a suffix:
//
//	DIR.index  what the copy was when it was last complete (DIR.index.new: half of it)
//	DIR.ours   the content that came for it since
//	DIR.kept   what it lost (see attic)
//	DIR.lock   who receives into it (see lock)
type beside struct {
	dir  string
	age  time.Duration
	size int64
}

func (b *beside) attic() *attic { return &attic{dir: b.dir + ".kept", age: b.age, size: b.size} }

func (b *beside) memory() string { return b.dir + ".index" }

func (b *beside) ours() string { return b.dir + ".ours" }

// expect notes contents before they are put into the copy, so that a copy that was
// cut off is not taken for one that something else has changed.
func (b *beside) expect(contents []digest) error {
	f, err := os.OpenFile(b.ours(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	buf := make([]byte, 0, len(contents)*len(digest{}))
	for _, d := range contents {
		buf = append(buf, d[:]...)
	}
	// One that was cut off, as by a full disk, would make nonsense of what follows.
	info, err := f.Stat()
	if err == nil {
		if half := info.Size() % int64(len(digest{})); half != 0 {
			err = f.Truncate(info.Size() - half)
		}
	}
	if err == nil {
		_, err = f.Write(buf)
	}
	return errors.Join(err, f.Close())
}

// expected returns what expect noted since forget, and whether it did.
func (b *beside) expected() (ours map[digest]bool, noted bool, err error) {
	ours = make(map[digest]bool)
	data, err := os.ReadFile(b.ours())
	if errors.Is(err, fs.ErrNotExist) {
		return ours, false, nil
	}
	for ; len(data) >= len(digest{}); data = data[len(digest{}):] {
		ours[digest(data)] = true
	}
	return ours, true, err
}

// forget drops what expect noted.
func (b *beside) forget() error {
	if err := os.Remove(b.ours()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// storeEvery is how often what a copy is gets stored while it follows.
const storeEvery = 5 * time.Second

// remember stores what the copy is, now or if the last time was a while ago.
func (r *receiver) remember(now bool) error {
	if r.side == nil || r.base == nil || !now && time.Since(r.stored) < storeEvery {
		return nil
	}
	if r.base == r.storedBase {
		return nil
	}
	if r.base != r.same || r.copy.scanner.learned > 0 { // else it is what was loaded
		mem := &memory{m: r.base, unseen: r.unseen, known: r.copy.scanner.known}
		if err := mem.store(r.side.memory()); err != nil {
			return err
		}
	}
	r.stored, r.storedBase = time.Now(), r.base
	if r.m != r.base {
		return nil // more is on its way
	}
	clear(r.ours)
	r.changing, r.unfinished = false, false
	return r.side.forget()
}

// recall finds out what the copy was when it was last complete.
func (r *receiver) recall() {
	r.copy.attic, r.copy.report = r.side.attic(), r.note
	r.copy.attic.log = r.log
	r.copy.attic.prune()
	last, count, bytes := r.copy.attic.conflicts()
	r.copy.attic.aside = bytes
	if f := r.following; f != nil {
		f.state.Conflicts, f.state.ConflictCount = last, count
		if count > 0 {
			f.tell(false) // it may go no further, because of them
		}
	}
	r.copy.attic.begin()
	mem, err := loadMemory(r.side.memory())
	if err != nil {
		r.log.Warn("what the copy of a volume was is not known: all of it that the source does not have is kept as if something else had written it", "error", err)
		mem, r.forgot = &memory{m: forgotten(), known: make(map[string]*hashed)}, true
	}
	if mem != nil {
		r.base, r.unseen = mem.m, mem.unseen
		if !r.full {
			r.copy.scanner.known = mem.known
		}
		if r.ours, r.unfinished, err = r.side.expected(); err != nil {
			r.log.Warn("what came for the copy of a volume last is not known: it is kept as if something else had written it", "error", err)
		}
	}
}

// forgotten is what a copy was of which nothing is known any more.
func forgotten() *manifest {
	return &manifest{keeps: keepAll, entries: []entry{{kind: kindDir, mode: 0o700}}}
}

// expect notes what is going to be put into the copy, and that it may be cut off
// in the midst of a change.
func (r *receiver) expect(p plan) error {
	if r.side == nil || r.base == nil {
		return nil
	}
	var contents []digest
	add := func(d digest) {
		if !r.ours[d] {
			contents = append(contents, d)
			r.ours[d] = true
		}
	}
	for _, e := range p.copies {
		add(e.digest)
	}
	for _, i := range p.wanted {
		add(r.m.entries[i].digest)
	}
	for _, e := range r.m.entries {
		f := r.copy.local.at(e.path)
		switch {
		case e.kind == kindSymlink && f.target != e.target:
			add(linkDigest(e.target))
		case e.kind == kindHardLink:
			if to, _ := r.m.find(e.target); !f.hashed || f.digest != to.digest {
				add(to.digest)
			}
		}
	}
	if len(contents) == 0 && r.changing {
		return nil
	}
	r.changing = true
	return r.side.expect(contents)
}

// linkDigest stands for the content of a symbolic link.
func linkDigest(target string) digest { return sha256.Sum256([]byte("symbolic link to " + target)) }
