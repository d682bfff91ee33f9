package replica

import (
	"errors"
	"io/fs"
	"os"
	"time"
)

// beside is what is kept beside a copy, with its name and a suffix:
//
//	DIR.index  what the copy was when it was last complete
//	DIR.ours   the content that came for it since
//	DIR.kept   what it lost (see attic)
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
	_, err = f.Write(buf)
	return errors.Join(err, f.Close())
}

// expected returns what expect noted since forget.
func (b *beside) expected() (map[digest]bool, error) {
	data, err := os.ReadFile(b.ours())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	ours := make(map[digest]bool)
	for ; len(data) >= len(digest{}); data = data[len(digest{}):] {
		ours[digest(data)] = true
	}
	return ours, nil
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
	mem := &memory{m: r.base, known: r.copy.scanner.known}
	if err := mem.store(r.side.memory()); err != nil {
		return err
	}
	r.stored, r.storedBase = time.Now(), r.base
	if r.m != r.base {
		return nil // more is on its way
	}
	clear(r.ours)
	return r.side.forget()
}

// recall finds out what the copy was when it was last complete.
func (r *receiver) recall() {
	r.copy.attic = r.side.attic()
	mem, err := loadMemory(r.side.memory())
	if mem != nil {
		r.base, r.copy.scanner.known = mem.m, mem.known
		r.ours, err = r.side.expected()
	}
	if err != nil {
		r.log.Warn("what the copy of a volume was is not known: what was changed in it since is kept like what is replaced", "error", err)
	}
}

// expect notes what is going to be put into the copy.
func (r *receiver) expect(p plan) error {
	if r.side == nil || r.base == nil {
		return nil
	}
	var contents []digest
	add := func(e entry) {
		if !r.ours[e.digest] {
			contents = append(contents, e.digest)
			r.ours[e.digest] = true
		}
	}
	for _, e := range p.copies {
		add(e)
	}
	for _, i := range p.wanted {
		add(r.m.entries[i])
	}
	if len(contents) == 0 {
		return nil
	}
	return r.side.expect(contents)
}
