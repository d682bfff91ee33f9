package replica

// places are what is in a copy, by path. What is there is never changed in place,
// so it can be shared.
type places struct{ by map[string]*found }

func newPlaces(n int) places { return places{make(map[string]*found, n)} }

// get returns what is at a path, if anything is.
func (p places) get(path string) (found, bool) {
	if f := p.by[path]; f != nil {
		return *f, true
	}
	return found{}, false
}

// at returns what is at a path: the zero value where nothing is.
func (p places) at(path string) found {
	f, _ := p.get(path)
	return f
}

// put notes that f is at a path, and drop that nothing is.
func (p places) put(path string, f found) { p.by[path] = &f }

func (p places) drop(path string) { delete(p.by, path) }

// roomFor is how many values of a block are allocated at a time.
const roomFor = 128

// block is room for values that stay, side by side.
type block[T any] []T

// next is where another value goes.
func (b *block[T]) next() *T {
	if len(*b) == 0 {
		*b = make([]T, roomFor)
	}
	v := &(*b)[0]
	*b = (*b)[1:]
	return v
}

// keep returns an entry that stays. Those of a scan lie side by side.
func (s *scanner) keep(f found) *found {
	if s.room == nil {
		kept := f
		return &kept
	}
	kept := s.room.next()
	*kept = f
	return kept
}

// below is the path of a name in a directory: the string that is known of it, if there
// is one.
func (s *scanner) below(dir, name string) string {
	s.name = append(s.name[:0], dir...)
	if dir != "" {
		s.name = append(s.name, '/')
	}
	s.name = append(s.name, name...)
	if k := s.known[string(s.name)]; k != nil && k.path == string(s.name) {
		return k.path // and not that of another name of the file
	}
	return string(s.name)
}
