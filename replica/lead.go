package replica

import (
	"context"
	"errors"
	"io"
	"time"
)

// idleEvery is how often the sender of a volume that does not change says so. It
// is how exact the last synced moment is, and how soon either side sees that the
// other is gone.
const idleEvery = 2 * time.Second

// What a receiver wants next: its payload in frameNext.
const (
	// nextNothing: the copy was all.
	nextNothing byte = iota
	// nextChange: what changes from now on.
	nextChange
	// nextNow: what changed, or else the same again: the copy has changed.
	nextNow
)

// What a sender says while nothing changes: the first byte of frameIdle.
const (
	// idleSame: the source is as it was last sent.
	idleSame byte = iota
	// idleGone: the source cannot be looked at. The reason follows.
	idleGone
	// idleBehind: the source has changed, and could not be sent, or looked at, yet.
	idleBehind
)

// lead sends what a receiver asked for that follows, and then what changes, for as
// long as it wants that.
func (s *sender) lead(ctx context.Context, now snapshot, a answer) (Report, error) {
	s.src.watch()
	// What it has instead is not known where it is held: then it is sent all of it.
	have := snapshot{m: &manifest{keeps: s.receiver.keeps}}
	offered := now.sum
	for {
		var err error
		if a.held {
			s.wire.mayWrite = true
			err = s.idle(nil, false)
		} else {
			have, err = s.complete(ctx, now, a)
		}
		if err != nil {
			return Report{}, err
		}
		now, err = s.await(ctx, have, offered, a.held)
		if err != nil || now.m == nil {
			return s.report(have), err
		}
		offered = now.sum
		if s.wire.version >= version4 {
			err = s.leaveOut(now)
		}
		if err := errors.Join(err, s.wire.difference(have.m, now.m), s.wire.seal(now.m, now.sum), s.wire.flush()); err != nil {
			return Report{}, err
		}
		if a, err = s.wanted(now.m); err != nil {
			return Report{}, err
		}
	}
}

// complete sends the files that the receiver asks for, and returns what it has
// then: files that changed while they were read are as before.
func (s *sender) complete(ctx context.Context, now snapshot, a answer) (snapshot, error) {
	missed, err := s.files(ctx, now.m, a)
	if err != nil {
		return snapshot{}, err
	}
	if missed != "" {
		s.log.Debug("files changed while they were read", "one", missed)
	}
	return s.finish(now)
}

// await returns what the source has become, once that is something else than was
// offered last, or the receiver asks for it. Without a manifest, it wants no more.
func (s *sender) await(ctx context.Context, have snapshot, offered digest, held bool) (snapshot, error) {
	for {
		wish, err := s.next()
		if err != nil || wish == nextNothing {
			return snapshot{}, err
		}
		now, reason, err := s.news(ctx, offered, wish)
		if err != nil {
			return snapshot{}, err
		}
		if now.m == nil && reason == nil && have.sum != offered && !held {
			// Some files changed while they were read. They may have changed back.
			now = s.view
		}
		if now.m != nil {
			return now, nil
		}
		if err := s.idle(reason, have.sum == offered); err != nil {
			return snapshot{}, err
		}
	}
}

// next reads what the receiver wants. One that hangs up wants nothing.
func (s *sender) next() (byte, error) {
	payload, err := s.wire.expect(frameNext, 1)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return nextNothing, nil
	}
	if err != nil {
		return nextNothing, err
	}
	if payload[0] > nextNow {
		return nextNothing, unexpected(frameNext, 1)
	}
	s.wire.mayWrite = true
	return payload[0], nil
}

// news waits a while for another snapshot than the one that was offered last. It
// returns none where there is none, and why that may be.
func (s *sender) news(ctx context.Context, offered digest, wish byte) (now snapshot, reason, err error) {
	idle := time.NewTimer(idleEvery)
	defer idle.Stop()
	for expired := false; ; {
		seen, changed, reason := s.src.current()
		if reason == nil || errors.Is(reason, errBehind) {
			if now, err := s.snapshot(seen); err != nil {
				reason = err
			} else if now.sum != offered || wish == nextNow || s.wire.version >= version4 && now.left != s.said {
				return now, nil, nil
			}
		}
		if expired {
			return snapshot{}, reason, nil
		}
		select {
		case <-changed:
		case <-idle.C:
			expired = true // what came at this very moment is no reason to wait once more
		case <-ctx.Done():
			return snapshot{}, nil, ctx.Err()
		}
	}
}

// idle says that there is nothing to send: for a reason, or since the receiver has
// the same, or since it will not have what there is.
func (s *sender) idle(reason error, same bool) error {
	status := []byte{idleBehind}
	switch {
	case errors.Is(reason, errBehind):
	case reason != nil:
		status = append([]byte{idleGone}, reason.Error()...)
		status = status[:min(len(status), maxErrorText)]
	case same:
		status[0] = idleSame
	}
	if err := s.wire.write(frameIdle, status); err != nil {
		return err
	}
	return s.wire.flush()
}
