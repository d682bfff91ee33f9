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
