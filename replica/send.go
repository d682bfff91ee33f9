package replica

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"

	"github.com/budgiehq/budgie/replica/internal/delta"
)

// sender is one Send.
type sender struct {
	wire *wire
	src  *source
	log  *slog.Logger

	receiver ability
	// base is what it had when it was last complete; nil where that is not known.
	base *digest
	// viewed is the sight that was last made a snapshot, and view that.
	viewed *sight
	view   snapshot

	// said is what the receiver was told that it cannot keep.
	said leftOut

	root        tree
	buf         buffer
	transferred int64
	removed     int
	// unread are files that could not be read as they were to be sent.
	unread []string
	// unsure says that changes of files were sent, and not yet asked whether these
	// are right now.
	unsure bool
}

// run is the whole of it. The order of turns is that of the protocol, in
// wire.go.
func (s *sender) run(ctx context.Context) (Report, error) {
	if err := s.wire.welcome(s.src.check); err != nil {
		return Report{}, err
	}
	ahead := s.lookAhead(ctx)
	defer ahead.end()
	var err error
	if s.receiver, s.base, err = s.wire.offered(); err != nil {
		return Report{}, err
	}
	now, err := s.begin(ctx, ahead)
	if err != nil {
		return Report{}, err
	}
	for round := 1; ; round++ {
		if now, err = s.announce(now); err != nil {
			return Report{}, err
		}
		a, err := s.wanted(now.m)
		if err != nil {
			return Report{}, err
		}
		if a.follows {
			return s.lead(ctx, now, a)
		}
		next, err := s.round(ctx, now, a, round == maxRounds)
		if err != nil {
			return Report{}, err
		}
		if next.m == nil {
			break
		}
		s.log.Debug("source changed, sending again", "round", round, "change", now.m.difference(next.m))
		if err := s.wire.write(frameAgain); err != nil {
			return Report{}, err
		}
		now = next
	}
	if _, err := s.finish(now); err != nil {
		return Report{}, err
	}
	_, err = s.next()
	return s.report(now), err
}

// snapshot is a volume at a moment, as far as the receiver can keep it.
type snapshot struct {
	m   *manifest
	sum digest
	// left is what it cannot keep, and temporary are files under way in the volume,
	// which is a copy itself, and what else is passed by.
	left      leftOut
	temporary []string
}

// list looks at all of the source.
func (s *sender) list(ctx context.Context) (snapshot, error) {
	seen, err := s.src.list(ctx)
	if err != nil {
		return snapshot{}, err
	}
	return s.snapshot(seen)
}

// sendAhead is a look at the source that begins before the receiver says what it can
// keep: that one is busy with its copy then.
type sendAhead struct {
	stop context.CancelFunc
	done chan struct{} // closed when what follows is there
	seen *sight
	err  error
}

func (s *sender) lookAhead(ctx context.Context) *sendAhead {
	ctx, stop := context.WithCancel(ctx)
	a := &sendAhead{stop: stop, done: make(chan struct{})}
	go func() {
		defer close(a.done)
		a.seen, a.err = s.src.list(ctx)
	}()
	return a
}

// end has it end, and waits for that.
func (a *sendAhead) end() {
	a.stop()
	<-a.done
}

// begin lists the source for the first time.
func (s *sender) begin(ctx context.Context, ahead *sendAhead) (snapshot, error) {
	if s.receiver.full {
		ahead.end()
		ahead.seen, ahead.err = s.src.listAnew(ctx)
	}
	<-ahead.done
	if ahead.err != nil {
		return snapshot{}, ahead.err
	}
	return s.snapshot(ahead.seen)
}

// snapshot makes one of what was seen.
func (s *sender) snapshot(seen *sight) (snapshot, error) {
	if seen == s.viewed {
		return s.view, nil
	}
	m, left, err := listing(seen.all, s.receiver)
	if unread := m.unreadable(); unread != "" && s.wire.version < version3 {
		err = errors.New(unread)
	}
	if err != nil {
		return snapshot{}, fmt.Errorf("this volume cannot be copied: %w", err)
	}
	if s.wire.version >= version4 {
		left.addPaths(seen.skipped)
	}
	s.viewed, s.view = seen, snapshot{m: m, sum: m.digest(), left: left, temporary: slices.Concat(seen.skipped, seen.temporary)}
	return s.view, nil
}

// round sends the files that the receiver asks for. It returns another snapshot
// if the source is no longer as this one says, which the last round puts up with
// as long as each file was.
func (s *sender) round(ctx context.Context, now snapshot, a answer, last bool) (next snapshot, err error) {
	if s.base != nil && *s.base == now.sum && len(a.wanted) == 0 {
		// That it is what it was at another moment, when it held still, shows that it
		// did so now.
		s.wire.mayWrite = true
		return snapshot{}, nil
	}
	missed, err := s.files(ctx, now.m, a)
	if err != nil {
		return snapshot{}, err
	}
	if last && missed == "" {
		return snapshot{}, nil
	}
	if last {
		return snapshot{}, fmt.Errorf("%w: %q, for the %dth time; stop what writes there, or try later", ErrChanged, missed, maxRounds)
	}
	if next, err = s.list(ctx); err != nil {
		return snapshot{}, err
	}
	if missed == "" && next.sum == now.sum {
		return snapshot{}, nil
	}
	return next, nil
}

// files sends the wanted files. It returns the path of one that is no longer what
// the manifest says, if there are such.
func (s *sender) files(ctx context.Context, m *manifest, a answer) (missed string, err error) {
	root, err := s.src.open()
	if err != nil {
		return "", err
	}
	defer root.Close()
	s.root = root
	s.wire.mayWrite = true
	s.unsure, s.unread = false, nil
	if missed, err = s.send(ctx, m, a); err == nil && s.unsure {
		var again string
		again, err = s.sendAgain(ctx, m, a.follows)
		missed = cmp.Or(missed, again)
	}
	if err == nil && len(s.unread) > 0 {
		if err := s.src.doubt(ctx, s.unread); err != nil {
			s.log.Debug("files that could not be read were not looked at again", "error", err)
		}
	}
	return missed, err
}

// send sends files, or what changed in them.
func (s *sender) send(ctx context.Context, m *manifest, a answer) (missed string, err error) {
	for _, i := range a.wanted {
		var ops []delta.Op
		if len(a.has) > 0 && a.has[0].index == i {
			if ops, err = s.ops(ctx, m.entries[i], a.has[0].digest); err != nil {
				return "", err
			}
			a.has = a.has[1:]
		}
		ok, err := s.file(ctx, m.entries[i], ops)
		if s.passes(err) {
			s.log.Warn("a file of a volume cannot be read", "path", m.entries[i].path, "error", err)
			s.unread = append(s.unread, m.entries[i].path)
			err = s.wire.write(frameFileEnd, []byte{0})
		}
		if err != nil {
			return "", err
		}
		if !ok {
			missed = m.entries[i].path
		}
	}
	return missed, nil
}

// passes reports whether an error is that of a single file of the source, and not of the
// connection: nothing can be written after one of that.
func (s *sender) passes(err error) bool { return s.wire.mayWrite && unreadable(err) }

// announce sends the manifest, and ends the turn. It returns what both sides go on from.
func (s *sender) announce(now snapshot) (snapshot, error) {
	if err := s.leaveOut(now); err != nil {
		return now, err
	}
	if s.base != nil && *s.base == now.sum {
		return now.bare(), errors.Join(s.wire.write(frameSame), s.wire.flush())
	}
	list := func() error { return s.wire.entries(now.m.entries) }
	if had := s.had(); had != nil {
		list = func() error { return errors.Join(s.wire.write(frameSince), s.wire.difference(had, now.m)) }
	}
	return now, errors.Join(list(), s.wire.seal(now.m, now.sum), s.wire.flush())
}

// bare returns a snapshot without its special files, which are named all the same: the
// receiver may know of others, as no digest tells of them.
func (now snapshot) bare() snapshot {
	m := *now.m
	m.entries = m.withoutSpecial()
	if len(m.entries) == len(now.m.entries) {
		return now
	}
	now.temporary = slices.Clone(now.temporary)
	for _, e := range now.m.entries {
		if e.kind == kindSpecial {
			now.temporary = append(now.temporary, e.path)
		}
	}
	now.m = &m
	return now
}

// leaveOut says what the receiver cannot keep, if that is anything.
func (s *sender) leaveOut(now snapshot) error {
	s.said = now.left
	left := now.left.encode()
	if len(left) == 0 {
		return nil
	}
	return s.wire.write(frameLeftOut, left)
}

// answer is what a receiver says to a manifest.
type answer struct {
	// wanted are the files it asks for, by index.
	wanted []uint32
	// has is what it has in the places of those of them whose changes may be sent,
	// and lastHave the last index for which it said what it has.
	has      []possession
	lastHave int64
	// held is true where it does not want to become like the manifest, but stay as
	// it is.
	held bool
	// follows is true where it goes on to ask for what changes.
	follows bool
}

// wanted reads which files the receiver asks for.
func (s *sender) wanted(m *manifest) (a answer, err error) {
	for {
		kind, payload, err := s.wire.read()
		switch {
		case err != nil:
			return answer{}, err
		case kind == frameWantEnd && len(payload) == 1 && payload[0] <= 1:
			a.follows = payload[0] == 1
			return a, nil
		case kind == frameHold && len(payload) == 0 && a.wanted == nil:
			return answer{held: true, follows: true}, nil
		case kind == frameHave:
			if err := a.addHave(m, payload); err != nil {
				return answer{}, err
			}
			continue
		case a.lastHave > 0: // what is wanted comes first
			return answer{}, unexpected(kind, len(payload))
		case kind != frameWant || len(payload) == 0 || len(payload)%4 != 0:
			return answer{}, unexpected(kind, len(payload))
		}
		for ; len(payload) > 0; payload = payload[4:] {
			i := binary.BigEndian.Uint32(payload)
			if n := len(a.wanted); n > 0 && i <= a.wanted[n-1] || int64(i) >= int64(len(m.entries)) || m.entries[i].kind != kindFile {
				return answer{}, fmt.Errorf("%w: the receiver wants entry %d, which is out of order or no file", ErrProtocol, i)
			}
			a.wanted = append(a.wanted, i)
		}
	}
}

// file sends the content of a file, or changes. It is false for one that is no
// longer what the manifest says.
func (s *sender) file(ctx context.Context, e entry, ops []delta.Op) (bool, error) {
	f, err := s.openSource(e.path)
	switch {
	case gone(err):
		return false, s.wire.write(frameFileEnd, []byte{0})
	case err != nil:
		return false, err
	}
	defer f.Close()
	if len(ops) > 0 {
		return s.changes(ctx, f, e, ops)
	}
	before, err := f.Stat()
	if err != nil {
		return false, err
	}
	out := &outgoing{wire: s.wire}
	was, still := s.still(before, e)
	if !still {
		out.hash = sha256.New()
	}
	n, err := copyContent(ctx, out, f, e.size, s.buf.bytes())
	s.transferred += out.data
	if err != nil {
		return false, fmt.Errorf("sending %s: %w", e.path, err)
	}
	// What grew has another time, and the next look at the tree sees that.
	same := n == e.size
	if same && still {
		after, err := f.Stat()
		if err != nil {
			return false, err
		}
		is, _ := fingerprintOf(after)
		same = is == was
	} else if same {
		same = digest(out.hash.Sum(nil)) == e.digest
	}
	if !same {
		return false, s.wire.write(frameFileEnd, []byte{0})
	}
	return true, s.wire.write(frameFileEnd, []byte{1})
}

// still reports whether a file's times prove that it is what the manifest says, so that
// it need not be hashed once more: nothing was done to it since a while before it was
// looked at.
func (s *sender) still(info fs.FileInfo, e entry) (fingerprint, bool) {
	fp, ok := fingerprintOf(info)
	return fp, ok && fp.size == e.size && fp.mtime == e.mtime && max(fp.mtime, fp.ctime) < s.viewed.at.Add(-quiet).UnixNano()
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

// finish tells the receiver that the source is as now says, and compares
// digests. It returns what the receiver has, which is not quite that where files
// changed while they were sent.
func (s *sender) finish(now snapshot) (snapshot, error) {
	if err := s.wire.write(frameDone); err != nil {
		return now, err
	}
	if err := s.wire.flush(); err != nil {
		return now, err
	}
	kind, payload, err := s.wire.read()
	if err == nil && kind != frameVerified {
		if now.m, err = s.wire.instead(now.m, kind, payload); err == nil {
			now.sum = now.m.digest()
			kind, payload, err = s.wire.read()
		}
	}
	if err != nil {
		return now, err
	}
	mine := now.sum
	if kind != frameVerified || len(payload) != len(mine)+4 {
		return now, unexpected(kind, len(payload))
	}
	s.wire.mayWrite = true
	if digest(payload[:len(mine)]) != mine {
		return now, fmt.Errorf("%w: the receiver computed the digest %x, the sender %x", ErrVerify, payload[:len(mine)], mine)
	}
	s.removed += int(binary.BigEndian.Uint32(payload[len(mine):]))
	if err := s.wire.write(frameBye, mine[:]); err != nil {
		return now, err
	}
	return now, s.wire.flush()
}

// report describes what the receiver has.
func (s *sender) report(now snapshot) Report {
	report := now.m.report()
	report.Transferred, report.Removed, report.NotKept = s.transferred, s.removed, now.left.lines()
	report.Skipped = append(report.Skipped, now.temporary...)
	return report
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
