package replica

import "context"

// A receiver that remembers what its copy was says so before the sender lists its
// source, by the digest of the tree. Where the source still is that, no list has to
// travel. Both look at their trees at the same time.

// offer tells the sender what this side can keep, and what its copy was, and then
// looks at the copy while the sender looks at the source.
func (r *receiver) offer(ctx context.Context) error {
	var base []byte
	if r.base != nil && !r.forgot && r.wire.version >= version3 {
		d := r.base.digest()
		base, r.offered = d[:], true
	}
	able := r.copy.ability
	able.full = r.full
	if err := r.wire.offer(able, base...); err != nil {
		return err
	}
	if r.base != nil {
		r.comparing(func() { r.copy.lookAhead(ctx) })
	}
	return nil
}

// comparing tells how far a look at the copy is.
func (r *receiver) comparing(look func()) {
	r.progress.begin(Progress{Step: Comparing})
	r.copy.scanner.seen = r.progress.add
	look()
	r.copy.scanner.seen = nil
}

// lookahead is what a look at all of a copy returned.
type lookahead struct {
	all []*found
	err error
}

// lookAhead looks at all of the copy, and hashes it. What comes of it, index returns.
func (t *target) lookAhead(ctx context.Context) {
	t.scanner.wants = nil
	all, err := t.list(ctx)
	t.ahead = &lookahead{all, err}
}

// lookedAhead returns what lookAhead saw, once, or else what there is now.
func (t *target) lookedAhead(ctx context.Context) ([]*found, error) {
	if ahead := t.ahead; ahead != nil {
		t.ahead = nil
		return ahead.all, ahead.err
	}
	return t.list(ctx)
}

// already reports whether the copy was found to be as m, all of it, and nothing was
// done in it since. Then it has been looked at, and need not be once more.
func (t *target) already(m *manifest) (digest, bool) {
	if t.looked == nil || len(t.scanner.temporary) > 0 || len(t.staged) > 0 {
		return digest{}, false
	}
	return t.is(m, t.looked)
}

// is reports whether all that was found is as m, and returns the digest of it.
func (t *target) is(m *manifest, all []*found) (digest, bool) {
	sum := newTreeSum()
	err := eachEntry(all, ability{keeps: keepAll}, func(e entry, _ keeps) error {
		sum.add(e)
		return nil
	})
	mine := sum.digest()
	if err != nil || mine != m.digest() {
		return digest{}, false
	}
	t.made = nil // it stays, empty or not
	return mine, true
}

// untouched returns the digest of the copy where all of it was found to be what it was,
// and what the source still is: then there is nothing to be done, or to be planned. It
// is nil where that is not so, or index and hold have to decide.
func (r *receiver) untouched() *digest {
	ahead := r.copy.ahead
	if r.m != r.same || ahead == nil || ahead.err != nil || r.untried != nil || len(r.copy.scanner.temporary) > 0 {
		return nil
	}
	if len(r.m.entries) < 2 || r.m.unreadable() != "" {
		return nil // an empty source is held, and what it cannot read is veiled
	}
	mine, is := r.copy.is(r.m, ahead.all)
	if !is {
		return nil
	}
	r.copy.ahead = nil
	return &mine
}
