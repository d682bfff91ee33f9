package replica

import (
	"bufio"
	"encoding/binary"
	"maps"
	"slices"
	"time"
)

// memory is what a copy was when it was last complete, in a file beside it. It
// tells what was changed in the copy from what its source has changed since, and
// saves reading files again that were left alone. The file, which is a summed one, is:
//
//	"budgie copy 1\n"
//	each entry as in the protocol, behind the length of that (4 bytes); for a file
//	then 1, its fingerprint (5 numbers of 8 bytes) and when it was read (8 bytes),
//	or 0 where that is not known; and then each entry that the source could not read
//	any more, which is no longer one of the copy's, with the length's highest bit set
type memory struct {
	m      *manifest
	unseen map[string]entry
	known  map[string]*hashed
}

// unseenBit marks the length of an entry that the copy only was.
const unseenBit = 1 << 31

const memoryHeading = "budgie copy 1\n"

// store writes the file.
func (mem *memory) store(name string) error {
	return storeMemory(name, mem.known, func(add func(e entry, mark uint32)) error {
		for _, e := range mem.m.entries {
			add(e, 0)
		}
		for _, path := range slices.Sorted(maps.Keys(mem.unseen)) {
			e := mem.unseen[path]
			e.path = path // another name of a file has the file's entry
			add(e, unseenBit)
		}
		return nil
	})
}

// storeMemory does so of all the entries that each adds, in their order, with what their
// lengths are marked with.
func storeMemory(name string, known map[string]*hashed, each func(add func(e entry, mark uint32)) error) error {
	return storeSummed(name, func(w *bufio.Writer) error {
		_, _ = w.WriteString(memoryHeading) // the writer remembers its error
		var buf []byte
		return each(func(e entry, mark uint32) {
			buf = appendEntry(binary.BigEndian.AppendUint32(buf[:0], 0), e)
			binary.BigEndian.PutUint32(buf, uint32(len(buf)-4)|mark)
			if e.kind == kindFile {
				buf = appendHashed(buf, known[e.path], e)
			}
			_, _ = w.Write(buf) // the same
		})
	})
}

func appendHashed(b []byte, k *hashed, e entry) []byte {
	if k == nil || k.digest != e.digest || k.at.IsZero() {
		return append(b, 0)
	}
	b = append(b, 1)
	for _, n := range []int64{int64(k.fp.dev), int64(k.fp.ino), k.fp.size, k.fp.mtime, k.fp.ctime, k.at.UnixNano()} {
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	}
	return b
}

// loadMemory reads the file. It is nil where there is none.
func loadMemory(name string) (*memory, error) {
	mem := &memory{m: &manifest{keeps: keepAll}}
	there, err := readMemory(name, func(n int64) { mem.m.entries = make([]entry, 0, n) }, mem.add, &mem.known)
	if !there || err != nil {
		return nil, err
	}
	return mem, nil
}

func (mem *memory) add(e entry, unseen bool) error {
	if !unseen {
		return mem.m.add(e)
	}
	if mem.unseen == nil {
		mem.unseen = make(map[string]entry)
	}
	mem.unseen[e.path] = e
	return nil
}

// loadKnown reads what the file says of the content of files, and the digest of the tree.
// It is nil where there is none.
func loadKnown(name string) (known map[string]*hashed, tree digest, err error) {
	sum := newTreeSum()
	there, err := readMemory(name, func(int64) {}, func(e entry, _ bool) error {
		sum.add(e)
		if k := known[e.target]; e.kind == kindHardLink && k != nil {
			known[e.path] = k
		}
		return nil
	}, &known)
	if !there || err != nil {
		return nil, digest{}, err
	}
	return known, sum.digest(), nil
}

// readMemory reads the file, if it is there: it says about how many entries it has,
// and then each of them.
func readMemory(name string, begin func(n int64), each func(e entry, unseen bool) error, known *map[string]*hashed) (there bool, err error) {
	return readSummed(name, func(r *summedReader) error {
		n := min(max(0, r.size)/bytesRemembered, maxEntries)
		begin(n)
		*known = make(map[string]*hashed, n)
		return (&memoryReader{summedReader: r, known: *known}).read(each)
	})
}

// memoryReader reads a memory.
type memoryReader struct {
	*summedReader
	// known takes what is known of files, which room is for, unless it is nil; xattrs
	// are the last ones.
	known  map[string]*hashed
	room   block[hashed]
	xattrs string
}

// bytesRemembered is about how long the record of a file is.
const bytesRemembered = 128

// read reads all entries.
func (r *memoryReader) read(each func(e entry, unseen bool) error) error {
	if err := r.heading(memoryHeading); err != nil {
		return err
	}
	for r.more() {
		b, err := r.bytes(4)
		if err != nil {
			return errNoMemory
		}
		size, unseen := binary.BigEndian.Uint32(b)&^unseenBit, b[0] >= 1<<7
		if size > maxFrame {
			return errNoMemory
		}
		encoded, err := r.bytes(int(size))
		if err != nil {
			return errNoMemory
		}
		e, rest, err := cutEntry(encoded)
		if err != nil || len(rest) > 0 {
			return errNoMemory
		}
		if e.xattrs != r.xattrs {
			r.xattrs = e.xattrs
		}
		e.xattrs = r.xattrs // neighbours often have the same
		if each(e, unseen) != nil {
			return errNoMemory
		}
		if e.kind == kindFile {
			if err := r.hashed(e); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *memoryReader) hashed(e entry) error {
	known, err := r.bytes(1)
	if err != nil || known[0] == 0 {
		return err
	}
	b, err := r.bytes(6 * 8)
	if err != nil {
		return errNoMemory
	}
	if r.known == nil {
		return nil
	}
	var n [6]int64
	for i := range n {
		n[i] = int64(binary.BigEndian.Uint64(b[8*i:]))
	}
	k := r.room.next()
	*k = hashed{
		path: e.path, fp: fingerprint{uint64(n[0]), uint64(n[1]), n[2], n[3], n[4]},
		size: e.size, digest: e.digest, xattrs: e.xattrs, at: time.Unix(0, n[5]),
	}
	r.known[e.path] = k
	return nil
}
