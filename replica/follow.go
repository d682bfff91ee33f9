package replica

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/budgiehq/budgie/replica/watch"
)

// Phase is what a Follow is doing.
type Phase string

// The phases.
const (
	// Starting: the copy is compared with the source for the first time.
	Starting Phase = "starting"
	// Synced: the copy is as its source.
	Synced Phase = "synced"
	// Syncing: what changed is on its way.
	Syncing Phase = "syncing"
	// Suspended: the copy stays as it is. Reason says why.
	Suspended Phase = "suspended"
)

// FollowState says how far a copy is behind its source.
type FollowState struct {
	// Phase is what is being done.
	Phase Phase
	// SyncedAt is the last moment at which the source said that the copy was as
	// it; zero where there was none yet.
	SyncedAt time.Time
	// Digest identifies the content of the copy, as [Report] does.
	Digest string
	// Files and Bytes are what the copy consists of.
	Files int
	Bytes int64
	// Progress is how far what is being done is: complete where the copy is as its
	// source.
	Progress Progress
	// PendingFiles and PendingBytes are what is known to be on its way.
	PendingFiles int
	PendingBytes int64
	// Reason is why it is suspended, or not as its source yet, or what that cannot read.
	Reason string
	// NotKept says what the source has and the copy cannot keep, as [Report] does,
	// special files among it.
	NotKept []string
	// Held is what identifies the content that the source has and that the copy
	// does not take over unless a person says so; empty where there is none. It stays
	// while the source loses little more: some change all the time.
	Held string
	// Conflicts are what was found in the copy that its source did not bring
	// there, the last ones, and ConflictCount is how many there are in all: those
	// that were kept when Follow was called, and those since.
	Conflicts     []Conflict
	ConflictCount int
}

// FollowOptions are the parts of a Follow that its caller may have. The zero
// value has none.
type FollowOptions struct {
	// Tell is called with the state when it has changed, at most a few times a
	// second, by one goroutine at a time.
	Tell func(FollowState)
	// Accepted returns the content ([FollowState.Held]) that a person said may be
	// taken over although much of the copy is lost by it. It is called every few
	// seconds.
	Accepted func() string
}

// mostConflicts is how many conflicts a state names.
const mostConflicts = 16

// defaultSilence is how long a source that has nothing to send may say nothing.
const defaultSilence = 10 * idleEvery

// following is what a Follow has beside a Receive. A nil one does nothing.
type following struct {
	FollowOptions
	maxLoss float64
	silence time.Duration
	state   FollowState
	told    time.Time
	watcher watch.Watcher
	limit   *complaint
	// changed says that something changed in the copy.
	changed bool
	// losses are what it has lost of late.
	losses losses
	// held is what the source was when it was first held, and heldFor why the copy does
	// not take it over.
	held    *manifest
	heldFor string
	// scans are those of all of the copy.
	scans fullScans
}

// accepts reports whether a person said that the copy may become so: like what is held,
// or what that has become since without losing much. Some sources never hold still.
func (f *following) accepts(m *manifest) bool {
	return f != nil && f.Accepted != nil && f.state.Held != "" && f.Accepted() == f.state.Held && f.holds(m)
}

// holds reports whether a manifest has lost little, or nothing, of what is held.
func (f *following) holds(m *manifest) bool {
	if f.held == nil || len(m.entries) == 1 && len(f.held.entries) > 1 {
		return false
	}
	there, gone := lossOf(f.held.entries, m)
	return float64(gone) <= f.maxLoss*float64(there)
}

func nameOf(m *manifest) string {
	d := m.digest()
	return "sha256:" + hex.EncodeToString(d[:])
}

// tell passes the state on; progress is told now and then only.
func (f *following) tell(progress bool) {
	if f == nil || f.Tell == nil || progress && time.Since(f.told) < tellEvery {
		return
	}
	f.told = time.Now()
	f.Tell(f.state)
}

// progress notes how far what is being done is.
func (f *following) progress(p Progress) {
	f.state.Progress = p
	if p.Step == Receiving {
		f.state.PendingFiles, f.state.PendingBytes = p.TotalFiles-p.Files, p.TotalBytes-p.Bytes
	}
	f.tell(true)
}

// follow takes over what changes at the source, until the connection or ctx ends.
func (r *receiver) follow(ctx context.Context) error {
	f := r.following
	w, err := watch.New(r.dir)
	if err != nil {
		return err
	}
	defer w.Close()
	f.watcher, f.limit = w, newComplaint(r.log)
	f.scans.begin()
	defer func() { _ = r.remember(true) }() // it is worth less time the next time
	r.copy.live = true
	f.changed = true // what was done to it since it was looked at is to be found
	r.copy.image.markAll()
	if r.acked == nil {
		r.acked = &manifest{keeps: r.copy.keeps}
	} else {
		r.synced()
	}
	for {
		wish, err := r.wish(ctx)
		if err != nil {
			return err
		}
		if err := r.next(wish); err != nil {
			return err
		}
		if err := r.answer(ctx); err != nil {
			return err
		}
	}
}

// wish decides what to ask for: the source's content at once where the copy was
// changed by something else, or a person accepted what was held.
func (r *receiver) wish(ctx context.Context) (byte, error) {
	f := r.following
	if f.state.Held != "" && f.Accepted != nil && f.Accepted() == f.state.Held {
		return nextNow, nil
	}
	for more := true; more; {
		select {
		case b := <-f.watcher.Changes():
			f.limit.take(b)
			if errors.Is(b.Reason, watch.ErrRootGone) {
				return nextChange, fmt.Errorf("the directory of the copy was moved or replaced: %w", b.Reason)
			}
			f.scans.take(b)
			r.copy.image.take(b)
			f.changed = true
		default:
			more = false
		}
	}
	full := f.scans.wait() == 0
	if full {
		f.scans.begin()
		f.changed = true
		r.copy.image.markAll()
	}
	if r.copy.attic != nil {
		r.copy.attic.prune()
	}
	if !f.changed || f.state.Phase != Synced || r.base == nil {
		return nextChange, r.remember(false)
	}
	f.changed = false
	r.m = r.base
	if err := r.copy.index(ctx, r.m, true); err != nil {
		return nextChange, err
	}
	if full {
		f.scans.end()
	}
	strange, lost := r.strange(r.base, r.base)
	if len(strange)+len(lost) > 0 || r.copy.differs(r.base) {
		return nextNow, nil
	}
	return nextChange, nil
}

// differs reports whether anything of a manifest is not there, or is otherwise.
func (t *target) differs(m *manifest) bool {
	for _, e := range m.entries {
		f, there := t.local.get(e.path)
		same := there && f.kind == e.kind && f.is(e)
		switch e.kind {
		case kindSpecial, kindUnread:
			continue
		case kindHardLink:
			same = there && f.node.file == t.local.at(e.target).node.file
		case kindSymlink:
			same = there && f.kind == e.kind && f.owner == e.owner && f.mtime == e.mtime
		}
		if !same {
			return true
		}
	}
	return false
}

// answer reads the sender's turn, and does what it asks for.
func (r *receiver) answer(ctx context.Context) error {
	stop := r.expectSoon()
	kind, payload, err := r.wire.read()
	stop()
	if err != nil {
		return err
	}
	f := r.following
	if kind != frameIdle {
		return r.change(ctx, kind, payload)
	}
	if len(payload) == 0 || len(payload) > 1+maxErrorText {
		return unexpected(kind, len(payload))
	}
	r.wire.mayWrite = true
	switch payload[0] {
	case idleSame:
		r.behind = 0
		r.synced()
	case idleGone:
		r.suspended(strings.Map(printable, strings.ToValidUTF8(string(payload[1:]), "?")))
	case idleBehind:
		if f.state.Held != "" {
			f.state.Reason = f.heldFor // it may have been gone meanwhile
		}
		f.tell(false)
	default:
		return unexpected(kind, len(payload))
	}
	return nil
}

// expectSoon ends the connection unless it is stopped soon.
func (r *receiver) expectSoon() (stop func()) {
	t := time.AfterFunc(r.following.silence, r.interrupt)
	return func() { t.Stop() }
}

// synced notes that the copy is as its source, but for files that changed while they
// were sent.
func (r *receiver) synced() {
	f := r.following
	first := f.state.Phase != Synced
	f.state.PendingFiles, f.state.PendingBytes = r.behind, 0
	f.state.Reason, f.state.Held, f.held = r.base.unreadable(), "", nil
	if r.behind == 0 {
		f.state.Phase, f.state.SyncedAt = Synced, time.Now()
	} else {
		f.state.Phase, f.state.Reason = Syncing, "files of the source changed while they were sent, and come again"
	}
	f.state.NotKept = append(r.left.lines(), r.base.special()...)
	if first || f.state.Digest != nameOf(r.base) {
		report := r.base.report()
		f.state.Digest, f.state.Files, f.state.Bytes = report.Digest, report.Files, report.Bytes
		f.state.Progress = complete(r.base)
	}
	f.tell(false)
}

func (r *receiver) suspended(reason string) {
	f := r.following
	f.state.Phase, f.state.Reason = Suspended, reason
	f.tell(false)
}

// stay tells the sender that the copy stays as it is, and why.
func (r *receiver) stay(reason error) error {
	f := r.following
	if f.state.Held == "" || !f.holds(r.m) {
		f.state.Held, f.held = nameOf(r.m), r.m
	}
	f.heldFor = reason.Error()
	r.suspended(f.heldFor)
	r.log.Warn("a copy of a volume stays as it is until a person accepts what its source has become", "reason", reason, "held", f.state.Held)
	if err := r.wire.write(frameHold); err != nil {
		return err
	}
	if err := r.wire.flush(); err != nil {
		return err
	}
	if _, err := r.wire.expect(frameIdle, 1); err != nil {
		return err
	}
	r.wire.mayWrite = true
	return nil
}

// leftBefore reads what cannot be kept of what a difference makes, if a frame is that,
// and returns the one that begins the difference.
func (r *receiver) leftBefore(kind byte, payload []byte) (byte, []byte, error) {
	r.left = leftOut{}
	if kind != frameLeftOut {
		return kind, payload, nil
	}
	var err error
	if r.left, err = decodeLeftOut(payload); err != nil {
		return 0, nil, err
	}
	return r.wire.read()
}

// change makes the copy become what the source has become.
func (r *receiver) change(ctx context.Context, kind byte, payload []byte) error {
	var err error
	if r.wire.version >= version4 {
		if kind, payload, err = r.leftBefore(kind, payload); err != nil {
			return err
		}
	}
	if r.m, err = r.wire.patched(r.acked, kind, payload); err != nil {
		return err
	}
	r.wire.mayWrite = true
	r.following.state.Phase = Syncing
	r.following.tell(true)
	if ok, err := r.begin(ctx); err != nil || !ok {
		return err
	}
	if _, err := r.round(ctx); err != nil {
		return err
	}
	if err := r.finish(ctx); err != nil {
		return err
	}
	r.synced()
	return nil
}
