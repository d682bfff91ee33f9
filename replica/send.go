package replica

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
)

// sender is one Send.
type sender struct {
	wire *wire
	dir  string
	log  *slog.Logger

	root        *os.Root
	scanner     *scanner
	transferred int64
}

// run is the whole of it. The order of turns is that of the protocol, in
// wire.go.
func (s *sender) run(ctx context.Context) (Report, error) {
	if err := s.wire.welcome(); err != nil {
		return Report{}, err
	}
	root, err := os.OpenRoot(s.dir)
	if err != nil {
		return Report{}, err
	}
	defer root.Close()
	s.root = root
	s.scanner = &scanner{root: root, known: make(map[string]hashed)}
	m, err := s.manifest(ctx)
	if err != nil {
		return Report{}, err
	}
	for round := 1; ; round++ {
		next, err := s.round(ctx, m)
		if err != nil {
			return Report{}, err
		}
		if next == nil {
			return s.finish(m)
		}
		if round == maxRounds {
			return Report{}, fmt.Errorf("%w: %s, for the %dth time; stop what writes there, or try later",
				ErrChanged, m.difference(next), round)
		}
		s.log.Debug("source changed, sending again", "round", round, "change", m.difference(next))
		if err := s.wire.write(frameAgain); err != nil {
			return Report{}, err
		}
		m = next
	}
}

// manifest lists the source.
func (s *sender) manifest(ctx context.Context) (*manifest, error) {
	all, err := s.scanner.scan(ctx)
	if err != nil {
		return nil, err
	}
	m := &manifest{}
	for _, f := range all {
		if err := m.add(f.entry); err != nil {
			return nil, fmt.Errorf("this volume cannot be copied: %w", err)
		}
	}
	return m, nil
}

// round sends the manifest and the files that the receiver asks for. It
// returns another manifest if the source is no longer as this one says.
func (s *sender) round(ctx context.Context, m *manifest) (next *manifest, err error) {
	if err := s.announce(m); err != nil {
		return nil, err
	}
	wanted, err := s.wanted(m)
	if err != nil {
		return nil, err
	}
	s.wire.mayWrite = true
	complete := true
	for _, i := range wanted {
		ok, err := s.file(ctx, m.entries[i])
		if err != nil {
			return nil, err
		}
		complete = complete && ok
	}
	next, err = s.manifest(ctx)
	if err != nil {
		return nil, err
	}
	if complete && next.digest() == m.digest() {
		return nil, nil
	}
	return next, nil
}

// announce sends the manifest.
func (s *sender) announce(m *manifest) error {
	var frame []byte
	for _, e := range m.entries {
		start := len(frame)
		frame = appendEntry(frame, e)
		if len(frame) > maxFrame {
			if err := s.wire.write(frameEntries, frame[:start]); err != nil {
				return err
			}
			frame = append(frame[:0], frame[start:]...)
		}
	}
	if err := s.wire.write(frameEntries, frame); err != nil {
		return err
	}
	d := m.digest()
	if err := s.wire.write(frameManifest, binary.BigEndian.AppendUint32(nil, uint32(len(m.entries))), d[:]); err != nil {
		return err
	}
	return s.wire.flush()
}

// wanted reads which files the receiver asks for.
func (s *sender) wanted(m *manifest) ([]uint32, error) {
	var wanted []uint32
	for {
		kind, payload, err := s.wire.read()
		switch {
		case err != nil:
			return nil, err
		case kind == frameWantEnd && len(payload) == 0:
			return wanted, nil
		case kind != frameWant || len(payload) == 0 || len(payload)%4 != 0:
			return nil, unexpected(kind, len(payload))
		}
		for ; len(payload) > 0; payload = payload[4:] {
			i := binary.BigEndian.Uint32(payload)
			if n := len(wanted); n > 0 && i <= wanted[n-1] || int64(i) >= int64(len(m.entries)) || m.entries[i].kind != kindFile {
				return nil, fmt.Errorf("%w: the receiver wants entry %d, which is out of order or no file", ErrProtocol, i)
			}
			wanted = append(wanted, i)
		}
	}
}

// file sends the content of a file. It is false for one that is no longer what
// the manifest says.
func (s *sender) file(ctx context.Context, e entry) (bool, error) {
	f, err := s.openSource(e.path)
	switch {
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, errRaced):
		return false, s.wire.write(frameFileEnd, []byte{0})
	case err != nil:
		return false, err
	}
	defer f.Close()
	h := sha256.New()
	n, err := copyCtx(ctx, io.MultiWriter(h, dataWriter{s.wire}), f, e.size, s.scanner.buf.bytes())
	s.transferred += n
	if err != nil {
		return false, fmt.Errorf("sending %s: %w", e.path, err)
	}
	// What grew has another time, and the next look at the tree sees that.
	if n != e.size || digest(h.Sum(nil)) != e.digest {
		return false, s.wire.write(frameFileEnd, []byte{0})
	}
	return true, s.wire.write(frameFileEnd, []byte{1})
}

func (s *sender) openSource(path string) (*os.File, error) {
	info, err := s.root.Lstat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errRaced
	}
	return openRegular(s.root, path, info)
}

// finish tells the receiver that the source held still, and compares digests.
func (s *sender) finish(m *manifest) (Report, error) {
	if err := s.wire.write(frameDone); err != nil {
		return Report{}, err
	}
	if err := s.wire.flush(); err != nil {
		return Report{}, err
	}
	mine := m.digest()
	verified, err := s.wire.expect(frameVerified, len(mine)+4)
	if err != nil {
		return Report{}, err
	}
	s.wire.mayWrite = true
	if digest(verified[:len(mine)]) != mine {
		return Report{}, fmt.Errorf("%w: the receiver computed the digest %x, the sender %x", ErrVerify, verified[:len(mine)], mine)
	}
	report := m.report()
	report.Transferred = s.transferred
	report.Removed = int(binary.BigEndian.Uint32(verified[len(mine):]))
	for _, t := range s.scanner.temporary {
		report.Skipped = append(report.Skipped, t.path)
	}
	if err := s.wire.write(frameBye, mine[:]); err != nil {
		return Report{}, err
	}
	return report, s.wire.flush()
}

// dataWriter sends what is written to it in data frames.
type dataWriter struct{ wire *wire }

func (d dataWriter) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		n := min(len(rest), maxFrame)
		if err := d.wire.write(frameData, rest[:n]); err != nil {
			return len(p) - len(rest), err
		}
		rest = rest[n:]
	}
	return len(p), nil
}
