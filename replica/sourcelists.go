package replica

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"strings"

	"github.com/budgiehq/budgie/replica/internal/delta"
)

// The chunk lists of a source's files are kept beside what else is remembered of it.
// Else the first change of a large file after a restart would have the receiver read
// what it has of it, and the list of that travel. The file, which is a summed one, is:
//
//	"budgie chunks 1\n"
//	each list as in the protocol, behind the digest of the content and the length of
//	the list (4 bytes)

const (
	listsHeading = "budgie chunks 1\n"
	listsSuffix  = ".chunks"
)

// listsOf returns where the lists of a source are, by where it is remembered.
func listsOf(memory string) string { return strings.TrimSuffix(memory, sourceSuffix) + listsSuffix }

// recallLists takes over the lists that were kept. A file that is not what was written
// costs no more than one that is not there.
func (s *source) recallLists() {
	had := sha256.New()
	lists := make(map[delta.Digest]*delta.List)
	_, err := readSummed(listsOf(s.memory), func(r *summedReader) error {
		if err := r.heading(listsHeading); err != nil {
			return err
		}
		for r.more() {
			b, err := r.bytes(len(digest{}) + 4)
			if err != nil {
				return errNoMemory
			}
			d, n := digest(b), binary.BigEndian.Uint32(b[len(digest{}):])
			if n > maxList {
				return errNoMemory
			}
			if b, err = r.bytes(int(n)); err != nil {
				return errNoMemory
			}
			l, err := delta.DecodeList(b)
			if err != nil {
				return err
			}
			lists[delta.Digest(d)] = l
			had.Write(d[:])
		}
		return nil
	})
	if err != nil {
		s.log.Warn("the chunks of a volume's files are not known: a change of a large one takes longer the next time", "error", err)
		return
	}
	s.storedLists = digest(had.Sum(nil))
	for d, l := range lists { // all of them are what was written
		s.lists.Put(d, l)
	}
}

// rememberLists stores the lists of the files that were seen, as far as they are known,
// if they are others than those that were stored.
func (s *source) rememberLists(seen *sight) error {
	each := func(do func(d digest, l *delta.List)) {
		for _, f := range seen.all {
			if f.kind != kindFile || !f.hashed || f.size < deltaFrom {
				continue
			}
			if l := s.lists.Peek(delta.Digest(f.digest)); l != nil {
				do(f.digest, l)
			}
		}
	}
	sum := sha256.New()
	each(func(d digest, _ *delta.List) { sum.Write(d[:]) })
	now := digest(sum.Sum(nil))
	if now == s.storedLists {
		return nil
	}
	name := listsOf(s.memory)
	err := storeSummed(name, func(w *bufio.Writer) error {
		_, _ = w.WriteString(listsHeading) // the writer remembers its error
		var b []byte
		each(func(d digest, l *delta.List) {
			b = l.Append(append(append(b[:0], d[:]...), 0, 0, 0, 0))
			binary.BigEndian.PutUint32(b[len(d):], uint32(len(b)-len(d)-4))
			_, _ = w.Write(b) // the same
		})
		return nil
	})
	if err == nil {
		s.storedLists = now
	}
	return err
}

// forgetSource removes what is remembered of a source.
func forgetSource(memory string) error {
	var errs []error
	for _, name := range []string{memory, listsOf(memory)} {
		if err := os.Remove(name); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
