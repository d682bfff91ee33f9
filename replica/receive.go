package replica

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
)

// receiver is one Receive.
type receiver struct {
	wire *wire
	dir  string
	log  *slog.Logger

	copy        *target
	m           *manifest
	transferred int64
}

// run is the whole of it. The order of turns is that of the protocol, in
// wire.go.
func (r *receiver) run(ctx context.Context) (Report, error) {
	if err := r.wire.greet(); err != nil {
		return Report{}, err
	}
	for round := 1; ; round++ {
		if round > maxRounds {
			return Report{}, fmt.Errorf("%w: more than %d manifests", ErrProtocol, maxRounds)
		}
		if err := r.manifest(); err != nil {
			return Report{}, err
		}
		if r.copy == nil {
			if err := r.open(); err != nil {
				return Report{}, err
			}
			defer r.copy.close()
		}
		done, err := r.round(ctx)
		if err != nil {
			return Report{}, err
		}
		if done {
			return r.finish(ctx)
		}
		r.log.Debug("source changed, receiving again", "round", round)
	}
}

// open opens the directory to receive into, not before there is something to
// receive.
func (r *receiver) open() error {
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		return err
	}
	root, err := os.OpenRoot(r.dir)
	if err != nil {
		return err
	}
	r.copy = newTarget(root)
	return nil
}

// manifest reads what the volume shall consist of.
func (r *receiver) manifest() error {
	m := &manifest{}
	for {
		kind, payload, err := r.wire.read()
		if err != nil {
			return err
		}
		switch {
		case kind == frameEntries:
			if err := m.addFrame(payload); err != nil {
				return err
			}
		case kind == frameManifest && len(payload) == 4+sha256.Size:
			r.wire.mayWrite = true
			n := binary.BigEndian.Uint32(payload)
			if len(m.entries) == 0 || int64(n) != int64(len(m.entries)) || digest(payload[4:]) != m.digest() {
				return fmt.Errorf("%w: the manifest does not have the entries or the digest that it says", ErrProtocol)
			}
			r.m = m
			return nil
		default:
			return unexpected(kind, len(payload))
		}
	}
}

// plan is what a round does about the files that are not in place.
type plan struct {
	// copies are there already, under other names.
	copies []entry
	// wanted has to be sent, by index.
	wanted []uint32
	// again are further files with the content of wanted ones.
	again []entry
}

// plan compares the manifest with what is there.
func (r *receiver) plan() plan {
	var p plan
	asked := make(map[digest]bool)
	for i, e := range r.m.entries {
		if e.kind != kindFile || r.copy.holds(e) {
			continue
		}
		switch _, there := r.copy.content[e.digest]; {
		case there:
			p.copies = append(p.copies, e)
		case asked[e.digest]:
			p.again = append(p.again, e)
		default:
			asked[e.digest] = true
			p.wanted = append(p.wanted, uint32(i))
		}
	}
	return p
}

// round brings every file of the manifest into place, or beside it where
// something is in the way. It is true when the sender says that its source is
// as the manifest says.
func (r *receiver) round(ctx context.Context) (done bool, err error) {
	if err := r.copy.index(ctx, r.m); err != nil {
		return false, err
	}
	p, err := r.copyLocally(ctx)
	if err != nil {
		return false, err
	}
	r.log.Debug("files to receive", "wanted", len(p.wanted), "of", len(r.m.entries))
	if err := r.ask(p.wanted); err != nil {
		return false, err
	}
	complete, err := r.files(ctx, p.wanted)
	if err != nil {
		return false, err
	}
	missing, err := r.copy.copyAll(ctx, p.again)
	if err != nil {
		return false, err
	}
	kind, payload, err := r.wire.read()
	switch {
	case err != nil:
		return false, err
	case kind == frameAgain && len(payload) == 0:
		return false, nil
	case kind != frameDone || len(payload) != 0:
		return false, unexpected(kind, len(payload))
	}
	r.wire.mayWrite = true
	if !complete || len(missing) > 0 {
		return false, fmt.Errorf("%w: the sender is done, but did not send every file", ErrProtocol)
	}
	return true, nil
}

// copyLocally brings into place what is there under other names, and returns
// what else there is to do.
func (r *receiver) copyLocally(ctx context.Context) (plan, error) {
	for {
		p := r.plan()
		if len(p.copies) == 0 {
			return p, nil
		}
		failed, err := r.copy.copyAll(ctx, p.copies)
		if err != nil {
			return plan{}, err
		}
		r.log.Debug("files copied locally", "files", len(p.copies)-len(failed))
		for _, e := range failed {
			// Somebody else changed the source under our hands.
			delete(r.copy.content, e.digest)
		}
		if len(failed) == 0 {
			p.copies = nil
			return p, nil
		}
	}
}

// ask sends which files are wanted.
func (r *receiver) ask(wanted []uint32) error {
	var frame []byte
	for _, i := range wanted {
		frame = binary.BigEndian.AppendUint32(frame, i)
		if len(frame) == maxFrame {
			if err := r.wire.write(frameWant, frame); err != nil {
				return err
			}
			frame = frame[:0]
		}
	}
	if len(frame) > 0 {
		if err := r.wire.write(frameWant, frame); err != nil {
			return err
		}
	}
	if err := r.wire.write(frameWantEnd); err != nil {
		return err
	}
	return r.wire.flush()
}

// files receives the wanted files. Those that came before an error stay. It is
// false where some changed at the sender meanwhile.
func (r *receiver) files(ctx context.Context, wanted []uint32) (complete bool, err error) {
	defer func() {
		if settled := r.copy.settleArrived(); err == nil {
			err = settled
		}
	}()
	complete = true
	for _, i := range wanted {
		ok, err := r.file(ctx, r.m.entries[i])
		if err != nil {
			return false, fmt.Errorf("receiving %s: %w", r.m.entries[i].path, err)
		}
		complete = complete && ok
	}
	return complete, nil
}

// file receives one file. It is false where the sender says that the file
// changed; what came of it is then forgotten.
func (r *receiver) file(ctx context.Context, e entry) (ok bool, err error) {
	t, err := r.copy.create(e)
	if err != nil {
		return false, err
	}
	defer func() {
		if !ok {
			t.discard()
		}
	}()
	for left := e.size; ; {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		kind, payload, err := r.wire.read()
		switch {
		case err != nil:
			return false, err
		case kind == frameFileEnd && len(payload) == 1 && payload[0] == 0:
			return false, nil
		case kind == frameFileEnd && len(payload) == 1 && payload[0] == 1:
			if left != 0 {
				return false, fmt.Errorf("%w: %d bytes are missing", ErrVerify, left)
			}
			err := t.accept()
			return err == nil, err
		case kind != frameData || len(payload) == 0:
			return false, unexpected(kind, len(payload))
		case int64(len(payload)) > left:
			return false, fmt.Errorf("%w: more than the %d bytes announced", ErrProtocol, e.size)
		}
		if _, err := t.Write(payload); err != nil {
			return false, err
		}
		left -= int64(len(payload))
		r.transferred += int64(len(payload))
	}
}

// finish makes the copy equal to the manifest, looks at all of it again, and
// compares digests with the sender.
func (r *receiver) finish(ctx context.Context) (Report, error) {
	removed, err := r.copy.finish(ctx, r.m)
	if err != nil {
		return Report{}, err
	}
	copied, err := r.copy.verify(ctx, r.m)
	if err != nil {
		return Report{}, err
	}
	mine := copied.digest()
	if err := r.wire.write(frameVerified, mine[:], binary.BigEndian.AppendUint32(nil, uint32(removed))); err != nil {
		return Report{}, err
	}
	if err := r.wire.flush(); err != nil {
		return Report{}, err
	}
	bye, err := r.wire.expect(frameBye, len(mine))
	if err != nil {
		return Report{}, err
	}
	if digest(bye) != mine {
		return Report{}, fmt.Errorf("%w: the sender computed the digest %x, the receiver %x", ErrVerify, bye, mine)
	}
	report := r.m.report()
	report.Transferred, report.Removed = r.transferred, removed
	return report, nil
}

// gone is true for errors of files that are not what they were.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, errRaced)
}
