package trust

import (
	"crypto/tls"
	"sync"
	"time"
)

// Generation is the flock for as long as the token stays the same.
type Generation struct {
	token     Token
	authority *authority
	ended     chan struct{}

	mu    sync.Mutex
	certs [roles]hidden[*tls.Certificate]
}

// FlockID returns the id of the flock, see [Token.FlockID].
func (g *Generation) FlockID() string { return g.authority.id }

// Ended is closed when the machine has another token, or the Flock is closed.
func (g *Generation) Ended() <-chan struct{} { return g.ended }

// Current returns the flock as it is now, and looks out for changes of the
// token by other processes from now on, until Close.
func (f *Flock) Current() (*Generation, error) {
	if err := f.watch(); err != nil {
		return nil, err
	}
	return f.current()
}

// current reads the token and returns its generation. If it is another one than
// before, what belongs to the one before ends.
func (f *Flock) current() (*Generation, error) {
	f.mu.Lock()
	g, stale, err := f.refresh()
	f.mu.Unlock()
	for _, c := range stale {
		_ = c.Conn.Close() // it is not wanted any more, whatever its state
	}
	return g, err
}

// refresh does the work of current, under f.mu from the reading on, so that an
// old token that was read never replaces a newer one. It returns the
// connections to close.
func (f *Flock) refresh() (*Generation, []*conn, error) {
	if f.closed {
		return nil, nil, ErrClosed
	}
	t, err := f.source.read()
	if err != nil {
		return nil, nil, err
	}
	if f.gen != nil && f.gen.token.Equal(t) {
		return f.gen, nil, nil
	}
	a, err := newAuthority(t)
	if err != nil {
		return nil, nil, err
	}
	stale := f.endGeneration()
	f.gen = &Generation{token: t, authority: a, ended: make(chan struct{})}
	return f.gen, stale, nil
}

// endGeneration ends the present generation, under f.mu, and returns its
// connections, to close.
func (f *Flock) endGeneration() []*conn {
	if f.gen == nil {
		return nil
	}
	close(f.gen.ended)
	var stale []*conn
	for c, g := range f.conns {
		if g == f.gen {
			stale = append(stale, c)
			delete(f.conns, c)
		}
	}
	f.gen = nil
	return stale
}

// certificate returns this node's certificate for one side of a handshake. It
// is made anew where it has become too old to tell the time by, as it has
// after the clock was set back.
func (g *Generation) certificate(self *identity, r role, now time.Time) (*tls.Certificate, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if made := g.certs[r]; made != nil {
		c := made()
		if age := now.Sub(c.Leaf.NotBefore); age >= 0 && age < Reissue {
			return c, nil
		}
	}
	c, err := g.authority.issue(self, r, now)
	if err == nil {
		g.certs[r] = hide(c)
	}
	return c, err
}
