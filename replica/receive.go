package replica

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// receiver is one Receive or Follow.
type receiver struct {
	wire     *wire
	dir      string
	openRoot func(dir string) (tree, error)
	log      *slog.Logger
	side     *beside
	// following is nil where the copy is made once.
	following *following
	// progress is told how far the copy is, nil where nobody is.
	progress *progress
	// full says that nothing that is remembered of files saves reading them, and
	// mended are those that were not what their size and times said.
	full   bool
	mended []string

	copy *target
	// m is what the copy is to become, acked what the sender knows that it is, and
	// base what it was when it was last complete, nil where that is not known.
	m, acked, base *manifest
	// unseen is what base does not say of what the copy was, by path: its source cannot
	// read it any more.
	unseen map[string]entry
	// begun says that the copy is becoming m.
	begun bool
	// behind is how many contents of m changed while they were sent, so that the copy is
	// not as its source.
	behind int
	// untried is why nothing is known of what the copy can keep: all that is done
	// then is to make room.
	untried error
	// forgot says that base is none of what the copy was, which is not known any more.
	forgot bool
	// left is what the source has and this side cannot keep.
	left leftOut
	// ours is content that came for the copy since base was stored, and may be in
	// it; storedBase is what was stored, and stored when.
	ours map[digest]bool
	// unfinished says that a change was cut off since, and changing that one has
	// begun.
	unfinished, changing bool
	storedBase           *manifest
	stored               time.Time
	// interrupt ends the connection.
	interrupt func()
	// unsure says that changes of files came, and the sender was not told whether
	// the files came out right.
	unsure bool
	// offered says that the sender was told what base is, and same is base where the
	// source said that it has that.
	offered bool
	same    *manifest
	// found is the digest of the copy where there is nothing to do: it is as m.
	found       *digest
	transferred int64
	removed     int
	conflicts   []Conflict
}

// run is the whole of it. The order of turns is that of the protocol, in
// wire.go.
func (r *receiver) run(ctx context.Context) (report Report, err error) {
	if err := r.wire.greet(); err != nil {
		return Report{}, err
	}
	if err := r.open(); err != nil {
		return Report{}, err
	}
	defer r.copy.close()
	defer func() {
		if noRoom(err) {
			r.makeRoom()
		}
	}()
	if err := r.copy.try(r.dir, r.openRoot, r.base); noRoom(err) {
		r.untried = err
	} else if err != nil {
		return Report{}, err
	}
	if err := r.offer(ctx); err != nil {
		return Report{}, err
	}
	for round := 1; ; round++ {
		if round > maxRounds {
			return Report{}, fmt.Errorf("%w: more than %d manifests", ErrProtocol, maxRounds)
		}
		if err := r.manifest(); err != nil {
			return Report{}, err
		}
		ok, err := r.begin(ctx)
		if err != nil {
			return Report{}, err
		}
		if !ok {
			return Report{}, r.follow(ctx)
		}
		done, err := r.round(ctx)
		if err != nil {
			return Report{}, err
		}
		if done {
			break
		}
		r.log.Debug("source changed, receiving again", "round", round)
	}
	if err := r.finish(ctx); err != nil {
		return Report{}, err
	}
	if r.following != nil {
		return Report{}, r.follow(ctx)
	}
	r.progress.begin(complete(r.m))
	if err := r.next(nextNothing); err != nil {
		return Report{}, err
	}
	return r.report(), nil
}

// open opens the directory to receive into. Until the sender has heard what
// that can keep it is this side's turn.
func (r *receiver) open() (err error) {
	r.wire.mayWrite = true
	if r.copy, err = openTarget(r.dir, r.openRoot); err != nil {
		return err
	}
	if r.side == nil {
		return nil
	}
	if r.copy.release, err = r.side.lock(); err != nil {
		r.copy.close()
		return err
	}
	r.recall()
	return nil
}

// begin looks at what is there, and sets aside what is not the source's. It is
// false where the copy rather stays as it is, which the sender then knows.
func (r *receiver) begin(ctx context.Context) (bool, error) {
	r.begun = false
	if r.found = r.untouched(); r.found != nil {
		r.begun = true
		return true, nil
	}
	index := func() error { return r.copy.index(ctx, r.m, r.base != nil || r.untried != nil) }
	var err error
	if r.copy.ahead == nil {
		r.comparing(func() { err = index() })
	} else {
		err = index() // it was looked at already
	}
	if err != nil {
		return false, err
	}
	if err := r.hold(); err != nil {
		if r.following == nil {
			return false, err
		}
		return false, r.stay(err)
	}
	if r.following == nil {
		r.mended = append(r.mended, r.copy.spoiled(r.m)...)
	}
	if err := r.setAside(); err != nil {
		return false, err
	}
	r.begun = true
	return true, r.untried
}

// manifest reads what the volume shall consist of.
func (r *receiver) manifest() error {
	m := &manifest{keeps: r.copy.keeps}
	r.left = leftOut{}
	for {
		kind, payload, err := r.wire.read()
		if err != nil {
			return err
		}
		switch {
		case kind == frameLeftOut:
			if r.left, err = decodeLeftOut(payload); err != nil {
				return err
			}
		case kind == frameEntries:
			if err := m.addFrame(payload); err != nil {
				return err
			}
		case kind == frameSame && len(payload) == 0 && r.offered && len(m.entries) == 0:
			r.wire.mayWrite = true
			// The special files may be others: no digest tells of them.
			same := *r.base
			same.keeps, same.entries = r.copy.keeps, r.base.withoutSpecial()
			r.m, r.same = &same, &same
			return nil
		case kind == frameSince && len(payload) == 0 && r.offered && len(m.entries) == 0 && r.wire.version >= version4:
			r.m, err = r.changed()
			return err
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
// as the manifest says. For a copy that follows it always is, and the manifest is
// changed instead: files that changed while they were sent are as they were.
func (r *receiver) round(ctx context.Context) (done bool, err error) {
	missed, err := r.fetch(ctx)
	r.behind = len(missed)
	if err != nil {
		return false, err
	}
	kind, payload, err := r.wire.read()
	switch {
	case err != nil:
		return false, err
	case kind == frameAgain && len(payload) == 0 && r.following == nil:
		return false, nil
	case kind != frameDone || len(payload) != 0:
		return false, unexpected(kind, len(payload))
	}
	r.wire.mayWrite = true
	if len(missed) == 0 {
		return true, nil
	}
	if r.following == nil {
		return false, fmt.Errorf("%w: the sender is done, but did not send every file", ErrProtocol)
	}
	announced := r.m
	if r.m, err = announced.without(missed, r.copy.local); err != nil {
		return false, err
	}
	if err := r.expect(plan{}); err != nil { // other names get what was to be replaced
		return false, err
	}
	return true, errors.Join(r.wire.difference(announced, r.m), r.wire.seal(r.m, r.m.digest()))
}

// fetch brings the files of the manifest into place that are not there. It returns
// the contents that the sender did not send, since they had changed meanwhile.
func (r *receiver) fetch(ctx context.Context) (missed map[digest]bool, err error) {
	if r.found != nil {
		r.progress.beginReceiving(r.m, plan{})
		return nil, r.ask(nil, nil)
	}
	p, err := r.copyLocally(ctx)
	if err != nil {
		return nil, err
	}
	r.log.Debug("files to receive", "wanted", len(p.wanted), "of", len(r.m.entries))
	has := r.places(p.wanted)
	if err := r.ask(p.wanted, has); err != nil {
		return nil, err
	}
	if missed, err = r.files(ctx, p.wanted, has); err != nil {
		return nil, err
	}
	missing, err := r.copyAll(ctx, p.again)
	for _, e := range missing {
		missed[e.digest] = true
	}
	return missed, err
}

// copyLocally brings into place what is there under other names, and returns
// what else there is to do.
func (r *receiver) copyLocally(ctx context.Context) (plan, error) {
	for {
		p := r.plan()
		r.progress.beginReceiving(r.m, p)
		if err := r.expect(p); err != nil {
			return plan{}, err
		}
		if len(p.copies) == 0 {
			return p, nil
		}
		failed, err := r.copyAll(ctx, p.copies)
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

// copyAll brings files into place whose content is there, and returns those whose
// content is not.
func (r *receiver) copyAll(ctx context.Context, entries []entry) (failed []entry, err error) {
	failed, err = r.copy.copyAll(ctx, entries)
	if err != nil {
		return nil, err
	}
	files, bytes := plan{copies: entries}.size(r.m)
	notFiles, notBytes := plan{copies: failed}.size(r.m)
	r.progress.add(files-notFiles, bytes-notBytes)
	return failed, nil
}

// files receives the wanted files. Those that came before an error stay. It
// returns the contents of those that changed at the sender meanwhile.
func (r *receiver) files(ctx context.Context, wanted []uint32, has map[uint32]found) (missed map[digest]bool, err error) {
	defer func() {
		if settled := r.copy.settleArrived(); err == nil {
			err = settled
		}
	}()
	missed = make(map[digest]bool)
	r.unsure = false
	wrong, err := r.some(ctx, wanted, has, missed)
	if err != nil || !r.unsure {
		return missed, err
	}
	r.wire.mayWrite = true
	if len(wrong) > 0 {
		r.log.Debug("files did not come out of their changes", "files", len(wrong))
	}
	if err := r.ask(wrong, nil); err != nil {
		return nil, err
	}
	_, err = r.some(ctx, wrong, nil, missed) // whole ones are right
	return missed, err
}

// some receives files. It notes the contents of those that changed at the sender
// meanwhile, and returns which did not come out of their changes.
func (r *receiver) some(ctx context.Context, wanted []uint32, has map[uint32]found, missed map[digest]bool) (wrong []uint32, err error) {
	for _, i := range wanted {
		e := r.m.entries[i]
		o, err := r.file(ctx, e, has[i])
		switch {
		case err != nil:
			return nil, fmt.Errorf("receiving %s: %w", e.path, err)
		case o == changedThere:
			missed[e.digest] = true
		case o == wrongHere:
			wrong = append(wrong, i)
		}
	}
	return wrong, nil
}

// become makes the copy equal to the manifest, looks at all of it again, and returns
// its digest. What came into the copy meanwhile is removed as what was there before is.
func (r *receiver) become(ctx context.Context) (mine digest, removed int, err error) {
	for range mostRemovals {
		n, err := r.copy.finish(ctx, r.m)
		removed += n
		r.removed += n
		if err != nil {
			return digest{}, removed, err
		}
		r.progress.begin(Progress{Step: Verifying, TotalFiles: r.m.files(), TotalBytes: r.m.total})
		r.copy.scanner.seen = r.progress.add
		copied, err := r.copy.verify(ctx, r.m)
		r.copy.scanner.seen = nil
		if err == nil {
			return copied.digest(), removed, nil
		}
		if copied == nil || !copied.hasMore(r.m) {
			return digest{}, removed, err
		}
		r.copy.keepAnew()
	}
	return digest{}, removed, fmt.Errorf("%w: something makes files in the copy that the source does not have, again and again", ErrConflicts)
}

// finish has the copy equal to the manifest, and compares digests with the sender.
func (r *receiver) finish(ctx context.Context) error {
	mine, is, removed := digest{}, r.found != nil, 0
	if is {
		mine = *r.found
	} else {
		mine, is = r.copy.already(r.m)
	}
	if !is {
		var err error
		if mine, removed, err = r.become(ctx); err != nil {
			return err
		}
	}
	if err := r.wire.write(frameVerified, mine[:], binary.BigEndian.AppendUint32(nil, uint32(removed))); err != nil {
		return err
	}
	if err := r.wire.flush(); err != nil {
		return err
	}
	bye, err := r.wire.expect(frameBye, len(mine))
	if err != nil {
		return err
	}
	if digest(bye) != mine {
		return fmt.Errorf("%w: the sender computed the digest %x, the receiver %x", ErrVerify, bye, mine)
	}
	r.unseen = r.m.unseen(r.base, r.unseen)
	r.acked = r.m
	if r.m == r.same {
		r.m, r.same = r.base, r.base // with the special files that it had
	}
	r.base, r.forgot = r.m, false
	return r.remember(r.following == nil)
}

func (r *receiver) report() Report {
	report := r.m.report()
	report.Transferred, report.Removed, report.Conflicts, report.NotKept = r.transferred, r.removed, r.conflicts, r.left.lines()
	report.Mended = r.mended
	return report
}

// next says what is wanted next, and ends the turn.
func (r *receiver) next(wish byte) error {
	if err := r.wire.write(frameNext, []byte{wish}); err != nil {
		return err
	}
	return r.wire.flush()
}

// gone is true for errors of files that are not what they were.
func gone(err error) bool {
	return missing(err) || errors.Is(err, errRaced)
}
