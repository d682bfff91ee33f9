package delta

import "fmt"

// freeOps is how many copies may come before their average length counts.
const freeOps = 64

// Checker checks the steps that put new content together against what they may
// do in all. Nobody is trusted: it refuses a step that reaches beyond the old
// content or the announced size, and more copies than any plan has, with
// ErrInvalid, before anything is done about it. Whether the result is right,
// only its digest says. A Checker is not safe for concurrent use.
type Checker struct {
	old, size int64
	made      int64
	copies    int64
}

// NewChecker returns a Checker for new content of size bytes out of old content
// of old bytes.
func NewChecker(old, size int64) *Checker { return &Checker{old: old, size: size} }

// Made returns how many bytes of the new content the steps so far make.
func (c *Checker) Made() int64 { return c.made }

// Done reports whether they make all of it.
func (c *Checker) Done() bool { return c.made == c.size }

// Literal takes the next n bytes of the new content from elsewhere, at least one.
func (c *Checker) Literal(n int64) error {
	if n < 1 || n > c.size-c.made {
		return fmt.Errorf("%w: %d literal bytes at %d of the %d bytes announced", ErrInvalid, n, c.made, c.size)
	}
	c.made += n
	return nil
}

// Copy takes the next bytes from the old content.
func (c *Checker) Copy(op Op) error {
	if err := op.check(); err != nil {
		return err
	}
	c.copies++
	switch {
	case op.Kind != Copy:
		return fmt.Errorf("%w: a literal where a copy is expected", ErrInvalid)
	case op.Length > c.size-c.made:
		return fmt.Errorf("%w: copy %d makes more than the %d bytes announced", ErrInvalid, c.copies, c.size)
	case op.Length > c.old-op.Offset:
		return fmt.Errorf("%w: copy %d is of %d bytes at %d, of %d", ErrInvalid, c.copies, op.Length, op.Offset, c.old)
	case c.copies > MaxChunks || c.copies > freeOps+c.made/minChunk:
		// Copies are made of whole chunks. Smaller ones would cost far more work per
		// byte, without an end for large content.
		return fmt.Errorf("%w: %d copies for %d bytes", ErrInvalid, c.copies, c.made)
	}
	c.made += op.Length
	return nil
}
