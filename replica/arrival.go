package replica

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"

	"github.com/budgiehq/budgie/replica/internal/delta"
)

// outcome is what became of a file that was asked for.
type outcome int

const (
	// arrivedWhole: it is what was announced.
	arrivedWhole outcome = iota
	// changedThere: the sender says that it is something else now.
	changedThere
	// wrongHere: what came out of the sender's changes is something else. What the
	// copy had was not what it said, or the sender did not notice a change.
	wrongHere
)

// arrival is a file on its way from the sender.
type arrival struct {
	r     *receiver
	to    *incoming
	check *delta.Checker
	// has is what the sender was told that the copy has in the place of the file;
	// not a file where it was told nothing.
	has found
	// old is that, open once it is needed, and holes says whether it may have
	// some.
	old   *os.File
	holes bool
	// begun says that content came, copied that some of it was to be taken from old,
	// and lost that old did not have it.
	begun, copied, lost bool
}

// becomes reports whether a path is to be a file whose changes are worth asking
// for.
func becomes(m *manifest, path string) bool {
	e, there := m.find(path)
	return there && e.kind == kindFile && e.size >= deltaFrom
}

// file receives one file. What came of one that is not as announced is forgotten.
func (r *receiver) file(ctx context.Context, e entry, has found) (o outcome, err error) {
	t, err := r.copy.create(e)
	if err != nil {
		return 0, err
	}
	a := &arrival{r: r, to: t, has: has, check: delta.NewChecker(has.size, e.size)}
	defer func() {
		if a.old != nil {
			_ = a.old.Close() // it was only read
		}
		if err != nil || o != arrivedWhole {
			t.discard()
		}
	}()
	for {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		kind, payload, err := r.wire.read()
		if err != nil {
			return 0, err
		}
		if kind == frameFileEnd {
			return a.end(payload)
		}
		before := a.check.Made()
		if err := a.frame(ctx, kind, payload); err != nil {
			return 0, err
		}
		r.progress.add(0, a.check.Made()-before)
	}
}

// frame takes a part of the file.
func (a *arrival) frame(ctx context.Context, kind byte, payload []byte) error {
	switch {
	case kind == frameData && len(payload) > 0:
		if err := a.literal(uint64(len(payload))); err != nil {
			return err
		}
		a.r.transferred += int64(len(payload))
		_, err := a.to.Write(payload)
		return err
	case kind == frameZeros && len(payload) == 8:
		n := binary.BigEndian.Uint64(payload)
		if err := a.literal(n); err != nil {
			return err
		}
		return a.to.Zeros(ctx, int64(n))
	case kind == frameCopy && a.has.kind == kindFile && len(payload) > 0:
		return a.copies(ctx, payload)
	case kind == frameChunks && a.has.kind == kindFile && !a.begun && len(payload) == 1 && payload[0] <= byte(delta.MaxClass):
		a.begun = true // once is enough
		return a.list(ctx, delta.Class(payload[0]))
	}
	return unexpected(kind, len(payload))
}

// literal counts content that comes from the sender.
func (a *arrival) literal(n uint64) error {
	a.begun = true
	if n > maxFileSize {
		n = maxFileSize + 1
	}
	if err := a.check.Literal(int64(n)); err != nil {
		return fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	return nil
}

// copies takes content from what the copy has.
func (a *arrival) copies(ctx context.Context, encoded []byte) error {
	a.begun, a.copied = true, true
	if err := a.open(); err != nil {
		return err
	}
	for len(encoded) > 0 {
		op, rest, err := delta.CutOp(encoded, 0)
		if err == nil {
			err = a.check.Copy(op)
		}
		if err != nil {
			return fmt.Errorf("%w: %w", ErrProtocol, err)
		}
		encoded = rest
		if a.lost {
			continue // the sender says the rest of it all the same
		}
		n, err := copyRange(ctx, a.to, a.old, span{op.Offset, op.Offset + op.Length}, a.holes, a.r.copy.scanner.buf.bytes())
		if err != nil {
			return err
		}
		a.lost = n < op.Length
	}
	return nil
}

// open opens what the copy has. That it has gone is no error.
func (a *arrival) open() error {
	if a.old != nil || a.lost {
		return nil
	}
	t := a.r.copy
	info, err := t.root.Lstat(a.has.path)
	if err == nil && !info.Mode().IsRegular() {
		err = errRaced
	}
	if err == nil {
		a.holes = sparse(info)
		a.old, err = t.scanner.open(a.has.path, info)
	}
	if gone(err) {
		a.lost, err = true, nil
	}
	return err
}

// list sends the chunk list of what the copy has, and nothing but its end where
// there is none. From then on the sender takes that for what it has.
func (a *arrival) list(ctx context.Context, c delta.Class) error {
	a.r.wire.mayWrite = true
	if err := a.open(); err != nil {
		return err
	}
	if !a.lost {
		l := newLister(nil, c, a.has.size)
		if _, err := copyContent(ctx, l, a.old, -1, a.r.copy.scanner.buf.bytes()); err != nil {
			return err
		}
		if list, err := l.list(); err == nil { // else there is none
			a.check = delta.NewChecker(list.Size(), a.to.entry.size)
			if err := a.r.wire.pieces(frameChunkList, list.Append(nil)); err != nil {
				return err
			}
		}
	}
	if err := a.r.wire.write(frameChunkList); err != nil {
		return err
	}
	return a.r.wire.flush()
}

// pieces sends bytes in as many frames as they need.
func (w *wire) pieces(kind byte, p []byte) error {
	for len(p) > 0 {
		n := min(len(p), maxFrame)
		if err := w.write(kind, p[:n]); err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}

// end says what became of the file.
func (a *arrival) end(payload []byte) (outcome, error) {
	switch {
	case len(payload) != 1 || payload[0] > 1:
		return 0, unexpected(frameFileEnd, len(payload))
	case payload[0] == 0:
		a.r.progress.add(0, -a.check.Made())
		return changedThere, nil
	case !a.check.Done():
		return 0, fmt.Errorf("%w: %d bytes are missing", ErrVerify, a.to.entry.size-a.check.Made())
	}
	if a.copied {
		a.r.unsure = true
		if a.lost || a.to.digest() != a.to.entry.digest {
			a.r.progress.add(0, -a.check.Made()) // all of it comes again
			return wrongHere, nil
		}
	}
	a.r.progress.add(1, 0)
	return arrivedWhole, a.to.accept()
}
