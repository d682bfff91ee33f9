package watch

import (
	"maps"

	"golang.org/x/sys/unix"
)

// mostNames is how many names of files that came lately are remembered.
const mostNames = 4096

// passing notices what nobody can have seen: a name of a file that came and went. It
// may have been another name of a file that stays, and then the directories of that
// one's other names do not hear of what was written by it.
type passing struct {
	out *coalescer
	// came says in which batch the names came that came lately.
	came map[string]int
	// leaving is the cookie of a name that came lately and was moved away; if it does
	// not come elsewhere with the next event it has left the tree.
	leaving uint32
	batch   int
}

func newPassing(out *coalescer) *passing { return &passing{out: out, came: make(map[string]int)} }

// event takes an event about the name of an entry.
func (p *passing) event(mask, cookie uint32, path string) {
	if cookie != p.leaving || mask&unix.IN_MOVED_TO == 0 {
		p.settle()
	}
	p.leaving = 0
	p.turn()
	_, known := p.came[path]
	switch {
	case mask&unix.IN_ISDIR != 0:
		if mask&(unix.IN_CREATE|unix.IN_MOVED_TO) != 0 {
			p.out.passed() // of what was done in it before it was watched nothing is heard
		}
	case mask&(unix.IN_CREATE|unix.IN_MOVED_TO) != 0:
		if known || len(p.came) >= mostNames {
			p.out.passed()
		}
		if len(p.came) < mostNames {
			p.came[path] = p.batch
		}
	case !known:
	case mask&unix.IN_DELETE != 0:
		p.out.passed()
		delete(p.came, path)
	case mask&unix.IN_MOVED_FROM != 0:
		p.leaving = cookie
		delete(p.came, path)
	}
}

// settle ends a series of events.
func (p *passing) settle() {
	if p.leaving != 0 {
		p.out.passed()
		p.leaving = 0
	}
}

// turn forgets the names that were there when the last batch but one was taken: whoever
// took it has seen them. The one before may be looked at now.
func (p *passing) turn() {
	now := p.out.taken()
	if now == p.batch {
		return
	}
	p.batch = now
	maps.DeleteFunc(p.came, func(_ string, batch int) bool { return batch < now-1 })
}
