package replicatest

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/budgiehq/budgie/replica"
	"github.com/budgiehq/budgie/replica/watch"
)

// wish says whether a receiver wants what changes next.
type wish struct{ Follow bool }

// sendChanges sends the volume again whenever it changes, until the receiver wants
// no more or hangs up.
func sendChanges(ctx context.Context, conn io.ReadWriter, dir string) error {
	var w watch.Watcher
	for {
		var next wish
		if err := hear(conn, &next); err != nil || !next.Follow {
			return nil
		}
		if w == nil {
			var err error
			if w, err = watch.New(dir); err != nil {
				return err
			}
			defer w.Close()
		} else {
			select {
			case <-w.Changes():
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if _, err := sendOnce(conn, dir); err != nil {
			return err
		}
	}
}

// Follow implements Syncer. It suspends nothing, and looks after no conflicts.
func (f *Fake) Follow(ctx context.Context, conn io.ReadWriter, dir string, opts replica.FollowOptions) error {
	_, err := f.guard(ctx, conn, func() (replica.Report, error) {
		for {
			report, err := f.receiveOnce(conn, dir)
			if err != nil {
				return replica.Report{}, err
			}
			if opts.Tell != nil {
				opts.Tell(replica.FollowState{Phase: replica.Synced, SyncedAt: time.Now(), Digest: report.Digest, Files: report.Files, Bytes: report.Bytes})
			}
			if err := say(conn, wish{Follow: true}); err != nil {
				return replica.Report{}, err
			}
		}
	})
	if err == nil {
		err = errors.New("fake syncer: the source is through")
	}
	return err
}
