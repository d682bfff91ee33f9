package replica

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"io"
	"os"
)

// contentWriter takes the content of a file, in which holes read as zeros.
type contentWriter interface {
	io.Writer
	// Zeros stands for that many zeros.
	Zeros(ctx context.Context, n int64) error
}

// copyContent copies src, a file from its beginning, as far as limit unless that
// is negative, and tells dst of its holes. It returns how many bytes there were,
// holes included.
func copyContent(ctx context.Context, dst contentWriter, src *os.File, limit int64, buf []byte) (n int64, err error) {
	info, err := src.Stat()
	if err != nil {
		return 0, err
	}
	if _, node := statOf(info); node.allocated >= info.Size() {
		return copyCtx(ctx, dst, src, limit, buf)
	}
	size := info.Size()
	if limit >= 0 {
		size = min(size, limit)
	}
	for n < size {
		begin, end, err := nextData(src, n, size)
		if err != nil {
			return n, err
		}
		if begin > n {
			if err := dst.Zeros(ctx, begin-n); err != nil {
				return n, err
			}
			n = begin
		}
		if _, err := src.Seek(n, io.SeekStart); err != nil {
			return n, err
		}
		got, err := copyCtx(ctx, dst, src, end-begin, buf)
		n += got
		if err != nil || got < end-begin {
			return n, err // it became shorter
		}
	}
	if limit < 0 {
		if _, err := src.Seek(n, io.SeekStart); err != nil {
			return n, err
		}
		more, err := copyCtx(ctx, dst, src, -1, buf)
		return n + more, err
	}
	return n, nil
}

// zeros are what holes read as.
var zeros [64 << 10]byte

// hashZeros has h take n zeros.
func hashZeros(ctx context.Context, h hash.Hash, n int64) error {
	for n > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		some := min(n, int64(len(zeros)))
		h.Write(zeros[:some])
		n -= some
	}
	return nil
}

// hasher computes the digest of a content.
type hasher struct{ hash.Hash }

// Zeros implements contentWriter.
func (h hasher) Zeros(ctx context.Context, n int64) error { return hashZeros(ctx, h, n) }

// outgoing is the content of a file on its way to the receiver.
type outgoing struct {
	wire *wire
	hash hash.Hash
	data int64 // bytes sent
}

func (s *sender) outgoing() *outgoing { return &outgoing{wire: s.wire, hash: sha256.New()} }

// Write sends data.
func (o *outgoing) Write(p []byte) (int, error) {
	o.hash.Write(p)
	n, err := dataWriter{o.wire}.Write(p)
	o.data += int64(n)
	return n, err
}

// Zeros sends that there is a hole.
func (o *outgoing) Zeros(ctx context.Context, n int64) error {
	if err := o.wire.write(frameZeros, binary.BigEndian.AppendUint64(nil, uint64(n))); err != nil {
		return err
	}
	return hashZeros(ctx, o.hash, n)
}

// Zeros leaves a hole in the file.
func (c *incoming) Zeros(ctx context.Context, n int64) error {
	if err := hashZeros(ctx, c.hash, n); err != nil {
		return err
	}
	c.holes = true
	_, err := c.file.Seek(n, io.SeekCurrent)
	return err
}
