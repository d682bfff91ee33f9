package replica

import (
	"context"
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
	if !sparse(info) {
		return copyCtx(ctx, dst, src, limit, buf)
	}
	size := info.Size()
	if limit >= 0 {
		size = min(size, limit)
	}
	if n, err = copyRange(ctx, dst, src, span{0, size}, true, buf); err != nil || n < size {
		return n, err
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

// sparse reports whether a file may have holes.
func sparse(info os.FileInfo) bool {
	_, node := statOf(info)
	return node.allocated < info.Size()
}

// span is a part of a content.
type span struct{ begin, end int64 }

// copyRange copies a part of src, as far as that goes, and tells dst of holes
// where src may have some. It returns how many bytes there were.
func copyRange(ctx context.Context, dst contentWriter, src *os.File, part span, sparse bool, buf []byte) (n int64, err error) {
	for at := part.begin; at < part.end; at = part.begin + n {
		begin, end := at, part.end
		if sparse {
			if begin, end, err = nextData(src, at, part.end); err != nil {
				return n, err
			}
		}
		if begin > at {
			if err := dst.Zeros(ctx, begin-at); err != nil {
				return n, err
			}
			n += begin - at
		}
		if _, err := src.Seek(begin, io.SeekStart); err != nil {
			return n, err
		}
		got, err := copyCtx(ctx, dst, src, end-begin, buf)
		n += got
		if err != nil || got < end-begin {
			return n, err // it became shorter
		}
	}
	return n, nil
}

// zeros are what holes read as.
var zeros [64 << 10]byte

// writeZeros writes n zeros.
func writeZeros(ctx context.Context, w io.Writer, n int64) error {
	for n > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		some := min(n, int64(len(zeros)))
		if _, err := w.Write(zeros[:some]); err != nil {
			return err
		}
		n -= some
	}
	return nil
}

// hasher computes the digest of a content.
type hasher struct{ hash.Hash }

// Zeros implements contentWriter.
func (h hasher) Zeros(ctx context.Context, n int64) error { return writeZeros(ctx, h, n) }

// outgoing is the content of a file on its way to the receiver.
type outgoing struct {
	wire *wire
	hash hash.Hash // nil where it need not be known
	data int64     // bytes sent
}

// Write sends data.
func (o *outgoing) Write(p []byte) (int, error) {
	if o.hash != nil {
		o.hash.Write(p)
	}
	n, err := dataWriter{o.wire}.Write(p)
	o.data += int64(n)
	return n, err
}

// Zeros sends that there is a hole.
func (o *outgoing) Zeros(ctx context.Context, n int64) error {
	if err := o.wire.write(frameZeros, binary.BigEndian.AppendUint64(nil, uint64(n))); err != nil {
		return err
	}
	if o.hash == nil {
		return nil
	}
	return writeZeros(ctx, o.hash, n)
}

// Zeros leaves a hole in the file.
func (c *incoming) Zeros(ctx context.Context, n int64) error {
	if err := writeZeros(ctx, c.hash, n); err != nil {
		return err
	}
	c.holes = true
	_, err := c.file.Seek(n, io.SeekCurrent)
	return err
}
