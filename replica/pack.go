package replica

import (
	"fmt"
	"io"
	"time"

	"github.com/klauspost/compress/zstd"
)

// From version3 on, what is sent of files and lists may be compressed: a frame
// packed has the type of the frame that it stands for, and that one's payload as a
// Zstandard frame (RFC 8878). Each stands alone, so that nothing is remembered, and
// none unpacks to more than a frame may have.
const (
	// packFrom is the size of the smallest payload that is tried.
	packFrom = 512
	// mostSkipped is how many frames at most are sent as they are after some that
	// did not get smaller, before another one is tried.
	mostSkipped = 64
	// measured is how much was written when the connection's speed is known.
	measured = 1 << 20
)

// packable reports whether frames of a kind may be packed.
func packable(kind byte) bool { return kind == frameData || kind == frameEntries }

// packer compresses frames where that pays: where a trial says that it makes them
// smaller by an eighth, and what that costs the processors is less than what it
// saves the connection.
type packer struct {
	conn io.Writer
	enc  *zstd.Encoder
	out  []byte
	// skip is how many frames are not tried, and misses how many trials in a row
	// were in vain.
	skip, misses int
	// written is what the connection took lately, in the time writing.
	written int64
	writing time.Duration
}

// Write implements io.Writer: it measures how long the connection takes.
func (p *packer) Write(b []byte) (int, error) {
	begin := time.Now()
	n, err := p.conn.Write(b)
	p.writing += time.Since(begin)
	if p.written += int64(n); p.written > 4*measured {
		p.written, p.writing = p.written/2, p.writing/2 // what was long ago counts less
	}
	return n, err
}

// pack returns the payload compressed, if that pays.
func (p *packer) pack(payload []byte) ([]byte, bool) {
	if len(payload) < packFrom {
		return nil, false
	}
	if p.skip > 0 {
		p.skip--
		return nil, false
	}
	if p.enc == nil {
		enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1),
			zstd.WithEncoderCRC(false), zstd.WithWindowSize(maxFrame), zstd.WithLowerEncoderMem(true))
		if err != nil {
			p.skip = mostSkipped // it goes without
			return nil, false
		}
		p.enc = enc
	}
	begin := time.Now()
	p.out = p.enc.EncodeAll(payload, p.out[:0])
	if p.pays(len(payload), len(p.out), time.Since(begin)) {
		p.misses = 0
		return p.out, true
	}
	p.misses++
	p.skip = min(mostSkipped, 1<<min(p.misses, 16))
	return nil, false
}

// pays reports whether it pays to send so many bytes instead of others, which took
// a while. To unpack takes about half of that.
func (p *packer) pays(before, after int, took time.Duration) bool {
	saved := before - after
	if saved < before/8 {
		return false
	}
	if p.written < measured {
		return true // it is not known how fast the connection is
	}
	saves := float64(p.writing) * float64(saved) / float64(p.written)
	return saves > 1.5*float64(took)
}

// unpacker is the other side of a packer.
type unpacker struct {
	dec *zstd.Decoder
	out []byte
}

// unpack returns the frame that a packed one stands for. It never makes more of it
// than a frame may have, whatever the other side says.
func (u *unpacker) unpack(packed []byte) (kind byte, payload []byte, err error) {
	if len(packed) < 2 || !packable(packed[0]) {
		return 0, nil, unexpected(framePacked, len(packed))
	}
	if u.dec == nil {
		u.dec, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(2*maxFrame), zstd.WithDecoderMaxMemory(maxFrame), zstd.WithDecodeAllCapLimit(true))
		if err != nil {
			return 0, nil, err
		}
		u.out = make([]byte, 0, maxFrame)
	}
	payload, err = u.dec.DecodeAll(packed[1:], u.out)
	if err == nil && len(payload) == 0 {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return 0, nil, fmt.Errorf("%w: a packed frame cannot be unpacked: %w", ErrProtocol, err)
	}
	return packed[0], payload, nil
}
