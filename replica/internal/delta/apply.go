package delta

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
)

// bufferSize is how much is moved at once.
const bufferSize = 128 << 10

// freeOps is how many operations may come before their average length counts.
const freeOps = 64

// Applier makes new content out of old. It keeps a buffer of 128 KiB from one
// use to the next. The zero value is ready; it is not safe for concurrent use.
type Applier struct {
	buf []byte
}

// Apply writes content of size bytes to dst, from ranges of old and from
// literals, as ops say. It asks for an operation once those before it
// are done, and reads of literals exactly what they are long, so that both can
// come from one stream.
//
// Nobody is trusted: an operation that reaches beyond the old content or the
// announced size, and more operations than any plan has, end it before anything
// is done about them, with ErrInvalid; so do operations that end too early. dst
// then has a part of the content that is worth nothing. An error of ops,
// of dst or of a source is returned as it is, with what was done when it came;
// io.ErrUnexpectedEOF if a source has ended early. Whether the result is right,
// only its digest says.
//
// It ends with ctx's error once ctx has ended, between two reads or writes.
func (a *Applier) Apply(ctx context.Context, dst io.Writer, old *io.SectionReader, size int64, ops iter.Seq2[Op, error], literals io.Reader) error {
	if a.buf == nil {
		a.buf = make([]byte, bufferSize)
	}
	p := progress{old: old.Size(), size: size}
	for op, err := range ops {
		if err != nil {
			return fmt.Errorf("delta operation %d: %w", p.ops+1, err)
		}
		if err := p.take(op); err != nil {
			return err
		}
		if op.Kind == Copy {
			err = a.move(ctx, dst, op, func(b []byte, offset int64) error {
				n, err := old.ReadAt(b, offset)
				if n == len(b) {
					return nil // io.EOF is allowed at the end
				}
				return early(err)
			})
		} else {
			err = a.move(ctx, dst, op, func(b []byte, _ int64) error {
				_, err := io.ReadFull(literals, b)
				return early(err)
			})
		}
		if err != nil {
			return err
		}
	}
	if p.made != size {
		return fmt.Errorf("%w: operations for %d of %d bytes", ErrInvalid, p.made, size)
	}
	return nil
}

// move writes the bytes of an operation, which read gets from where they are.
func (a *Applier) move(ctx context.Context, dst io.Writer, op Op, read func(b []byte, offset int64) error) error {
	for left, offset := op.Length, op.Offset; left > 0; {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		b := a.buf[:min(left, int64(len(a.buf)))]
		if err := read(b, offset); err != nil {
			return fmt.Errorf("reading %s bytes at %d: %w", op.Kind, offset, err)
		}
		if _, err := dst.Write(b); err != nil {
			return fmt.Errorf("writing: %w", err)
		}
		left -= int64(len(b))
		offset += int64(len(b))
	}
	return nil
}

func early(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// progress checks operations against what they may do in all.
type progress struct {
	old, size int64
	made      int64
	ops       int64
}

// take accepts the next operation.
func (p *progress) take(op Op) error {
	p.ops++
	if err := op.check(); err != nil {
		return fmt.Errorf("operation %d: %w", p.ops, err)
	}
	switch {
	case op.Length > p.size-p.made:
		return fmt.Errorf("%w: operation %d makes more than the %d bytes announced", ErrInvalid, p.ops, p.size)
	case op.Kind == Copy && op.Length > p.old-op.Offset:
		return fmt.Errorf("%w: operation %d copies %d bytes at %d, of %d", ErrInvalid, p.ops, op.Length, op.Offset, p.old)
	case op.Kind == Literal && op.Offset != p.made:
		return fmt.Errorf("%w: operation %d is a literal for %d, after %d bytes", ErrInvalid, p.ops, op.Offset, p.made)
	case p.ops > MaxChunks || p.ops > freeOps+p.made/minChunk:
		// Operations are made of whole chunks. Smaller ones would cost far more
		// work per byte, without an end for large content.
		return fmt.Errorf("%w: %d operations for %d bytes", ErrInvalid, p.ops, p.made)
	}
	p.made += op.Length
	return nil
}

// String returns the kind's name, for messages.
func (k Kind) String() string {
	switch k {
	case Copy:
		return "copied"
	case Literal:
		return "literal"
	default:
		return fmt.Sprintf("kind %d", uint8(k))
	}
}
