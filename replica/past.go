package replica

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
)

// A source that remembers what it was, and whose receiver says that its copy was that,
// need not list all that it is now: what has changed since is enough. It is the file of
// sourcememory.go that says so, as it was when the source was first looked at: what is
// stored later takes its name, and not its content. It is read only when it is asked
// for, so that a large volume costs no memory for it.

// keepPast opens what is remembered of the source, before it is written anew.
func (s *source) keepPast() {
	if runtime.GOOS == "windows" {
		return // no file can take the name of one that is open there
	}
	f, err := os.Open(s.memory)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.log.Debug("what a volume was is not known: receivers get all of its list", "error", err)
	}
	s.past = f // nil after an error
}

// was returns the manifest that a receiver once got, if it is the remembered one; else
// nil. Special files, of which digests do not tell, are not in it.
func (s *source) was(sum digest, receiver ability) (*manifest, error) {
	if s.past == nil {
		return nil, nil
	}
	m := &manifest{keeps: receiver.keeps}
	err := checkSummed(s.past, func(r *summedReader) error {
		return (&memoryReader{summedReader: r}).read(func(e entry, _ bool) error { return m.addAsKept(e) })
	})
	if err != nil {
		return nil, fmt.Errorf("what a volume was: %w", err)
	}
	if m.digest() != sum {
		return nil, nil
	}
	return m, nil
}

// addAsKept adds an entry of a manifest of everything as far as m keeps that.
func (m *manifest) addAsKept(e entry) error {
	if e.kind == kindSpecial {
		return nil
	}
	if e.kind == kindHardLink && m.keeps&keepHardLinks == 0 {
		path := e.path
		e, _ = m.find(e.target)
		e.path = path
	}
	return m.add(e.only(m.keeps))
}

// had returns what the receiver said it had, where that is known: then what has changed
// since is all that it has to hear.
func (s *sender) had() *manifest {
	if s.base == nil || s.wire.version < version4 {
		return nil
	}
	m, err := s.src.was(*s.base, s.receiver)
	if err != nil {
		s.log.Warn("all of a volume's list is sent", "error", err)
	}
	return m
}

// changed reads what turns what the copy was into what the source is.
func (r *receiver) changed() (*manifest, error) {
	kind, payload, err := r.wire.read()
	if err != nil {
		return nil, err
	}
	m, err := r.wire.patched(&manifest{keeps: r.copy.keeps, entries: r.base.withoutSpecial()}, kind, payload)
	if err != nil {
		return nil, err
	}
	r.wire.mayWrite = true
	return m, nil
}
