package delta

import (
	"encoding/binary"
	"fmt"
)

// An encoded operation is a varint of twice the length, plus 1 for a literal;
// for a copy another varint with its offset follows. Where a literal goes, the
// operations before it say. The bytes of literals travel apart from it.

// MaxOp is the size in bytes of the longest encoded operation: two varints of
// 45 bits at most.
const MaxOp = 14

// AppendOp appends an encoded operation to b. It panics if the operation is
// none of Plan's.
func AppendOp(b []byte, op Op) []byte {
	if err := op.check(); err != nil {
		panic(err)
	}
	if op.Kind == Literal {
		return binary.AppendUvarint(b, uint64(op.Length)<<1|1)
	}
	b = binary.AppendUvarint(b, uint64(op.Length)<<1)
	return binary.AppendUvarint(b, uint64(op.Offset))
}

// CutOp decodes the operation at the beginning of b, which must be there whole,
// and returns what follows. at is the number of bytes of new content that the
// operations before it make. Its errors are ErrInvalid.
func CutOp(b []byte, at int64) (op Op, rest []byte, err error) {
	v, rest, ok := cutUvarint(b)
	if !ok {
		return Op{}, nil, fmt.Errorf("%w: an operation is no number, or is cut off", ErrInvalid)
	}
	op = Op{Literal, at, int64(v >> 1)}
	if v&1 == 0 {
		op.Kind = Copy
		if v, rest, ok = cutUvarint(rest); !ok || v > MaxSize {
			return Op{}, nil, fmt.Errorf("%w: a copy has no offset, or one beyond %d", ErrInvalid, int64(MaxSize))
		}
		op.Offset = int64(v)
	}
	if err := op.check(); err != nil {
		return Op{}, nil, err
	}
	return op, rest, nil
}

// check returns an error for an operation that no content has room for. It
// does not overflow.
func (op Op) check() error {
	if op.Kind != Copy && op.Kind != Literal {
		return fmt.Errorf("%w: operation of kind %d", ErrInvalid, op.Kind)
	}
	if op.Length < 1 || op.Length > MaxSize || op.Offset < 0 || op.Offset > MaxSize-op.Length {
		return fmt.Errorf("%w: operation of %d bytes at %d, at most %d bytes are allowed", ErrInvalid, op.Length, op.Offset, int64(MaxSize))
	}
	return nil
}
