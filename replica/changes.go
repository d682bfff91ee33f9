package replica

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/budgiehq/budgie/replica/internal/delta"
)

// askFrom is the size in bytes from which on the sender asks the receiver for the
// chunk list of what it has, where it does not know that: below, sending all of a
// file is about as fast as a round trip.
const askFrom = 1 << 20

// maxList is the size of the longest chunk list on the wire.
const maxList = 16 + 21*delta.MaxChunks

// possession is what the receiver has in the place of a wanted file.
type possession struct {
	index uint32
	digest
}

const possessionSize = 4 + len(digest{})

// addHave decodes a frame of what the receiver has in the places of what it asked
// for.
func (a *answer) addHave(m *manifest, payload []byte) error {
	if len(payload) == 0 || len(payload)%possessionSize != 0 {
		return unexpected(frameHave, len(payload))
	}
	for ; len(payload) > 0; payload = payload[possessionSize:] {
		i := binary.BigEndian.Uint32(payload)
		_, wanted := slices.BinarySearch(a.wanted, i)
		if !wanted || int64(i) <= a.lastHave {
			return fmt.Errorf("%w: the receiver has something for entry %d, which is out of order or not wanted", ErrProtocol, i)
		}
		a.lastHave = int64(i)
		if m.entries[i].size >= deltaFrom {
			a.has = append(a.has, possession{i, digest(payload[4:possessionSize])})
		}
	}
	return nil
}

// ops returns how to make a file out of what the receiver has in its place, nil
// where that is not known or of no use.
func (s *sender) ops(ctx context.Context, e entry, has digest) ([]delta.Op, error) {
	next := s.src.lists.Get(delta.Digest(e.digest))
	if next == nil && e.size >= askFrom {
		var err error
		if next, err = s.makeList(ctx, e); err != nil {
			return nil, err
		}
	}
	if next == nil {
		return nil, nil
	}
	old := s.src.lists.Get(delta.Digest(has))
	if (old == nil || old.Class() != next.Class()) && e.size >= askFrom {
		var err error
		if old, err = s.askForList(next.Class()); err != nil {
			return nil, err
		}
	}
	if old == nil || old.Class() != next.Class() {
		return nil, nil
	}
	ops := delta.Plan(old, next)
	if !slices.ContainsFunc(ops, func(op delta.Op) bool { return op.Kind == delta.Copy }) {
		return nil, nil
	}
	return ops, nil
}

// makeList reads a file for the list of its chunks: its digest was remembered, and
// the list was not. It is nil where the file is another one by now, or cannot be read.
func (s *sender) makeList(ctx context.Context, e entry) (*delta.List, error) {
	f, err := s.openSource(e.path)
	if err != nil {
		return nil, nil // sending it says what is wrong
	}
	defer f.Close()
	h := sha256.New()
	l := newLister(h, delta.ClassOf(e.size), e.size)
	defer l.close()
	if _, err := copyContent(ctx, l, f, -1, s.buf.bytes()); err != nil {
		return nil, ctx.Err()
	}
	list, err := l.list()
	if err != nil || digest(h.Sum(nil)) != e.digest {
		return nil, nil
	}
	s.src.lists.Put(delta.Digest(e.digest), list)
	return list, nil
}

// askForList has the receiver list the chunks of what it has in the place of the
// next file. It is nil where that has none. Nobody else is told of it: it may be
// a lie.
func (s *sender) askForList(c delta.Class) (*delta.List, error) {
	if err := s.wire.write(frameChunks, []byte{byte(c)}); err != nil {
		return nil, err
	}
	if err := s.wire.flush(); err != nil {
		return nil, err
	}
	var encoded []byte
	for {
		payload, err := s.wire.expect(frameChunkList, -1)
		if err != nil {
			return nil, err
		}
		if len(payload) == 0 {
			break
		}
		if encoded = append(encoded, payload...); len(encoded) > maxList {
			return nil, fmt.Errorf("%w: a chunk list of more than %d bytes", ErrProtocol, maxList)
		}
	}
	s.wire.mayWrite = true
	if len(encoded) == 0 {
		return nil, nil
	}
	list, err := delta.DecodeList(encoded)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	return list, nil
}

// changes sends a file as what it has in common with what the receiver has, and
// what it has not. It is false for a file that is no longer what the manifest
// says, as far as its times tell: the receiver has the digest.
func (s *sender) changes(ctx context.Context, f *os.File, e entry, ops []delta.Op) (bool, error) {
	info, err := f.Stat()
	if err != nil {
		return false, err
	}
	holes := sparse(info)
	out := &outgoing{wire: s.wire}
	defer func() { s.transferred += out.data }()
	whole := holdsStill(info, e)
	copies := make([]byte, 0, delta.MaxOp)
	for i := 0; i < len(ops) && whole; i++ {
		op := ops[i]
		if op.Kind == delta.Copy {
			copies = delta.AppendOp(copies, op)
		}
		if len(copies) > maxFrame-delta.MaxOp || op.Kind != delta.Copy {
			if err := s.copies(copies); err != nil {
				return false, err
			}
			copies = copies[:0]
		}
		if op.Kind == delta.Copy {
			continue
		}
		n, err := copyRange(ctx, out, f, span{op.Offset, op.Offset + op.Length}, holes, s.buf.bytes())
		if err != nil {
			return false, fmt.Errorf("sending changes of %s: %w", e.path, err)
		}
		whole = n == op.Length
	}
	if err := s.copies(copies); err != nil {
		return false, err
	}
	if info, err = f.Stat(); err != nil {
		return false, err
	}
	if !whole || !holdsStill(info, e) {
		return false, s.wire.write(frameFileEnd, []byte{0})
	}
	s.unsure = true
	return true, s.wire.write(frameFileEnd, []byte{1})
}

// holdsStill reports whether a file may still begin with what the manifest says. One
// that has grown since mostly does: logs would never arrive else.
func holdsStill(info fs.FileInfo, e entry) bool {
	return info.Size() > e.size || info.Size() == e.size && nanos(info.ModTime()) == e.mtime
}

// copies sends what the receiver is to copy, if that is anything.
func (s *sender) copies(encoded []byte) error {
	if len(encoded) == 0 {
		return nil
	}
	return s.wire.write(frameCopy, encoded)
}

// sendAgain asks the receiver which of the files whose changes it got did not
// become what they should, as it had not what it said or the source has changed,
// and sends all of those. It returns the path of one that has changed, if there
// are such.
func (s *sender) sendAgain(ctx context.Context, m *manifest, follows bool) (missed string, err error) {
	if err := s.wire.flush(); err != nil {
		return "", err
	}
	a, err := s.wanted(m)
	if err != nil {
		return "", err
	}
	if a.held || a.follows != follows || len(a.has) > 0 {
		return "", fmt.Errorf("%w: the receiver asks for other things than whole files", ErrProtocol)
	}
	s.wire.mayWrite = true
	if len(a.wanted) > 0 {
		s.log.Debug("files did not come out of their changes", "files", len(a.wanted))
	}
	return s.send(ctx, m, a)
}
