package replicatest

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"time"

	"github.com/budgiehq/budgie/replica"
	"github.com/budgiehq/budgie/replica/watch"
)

// wish says whether a receiver wants what changes next.
type wish struct{ Follow bool }

// sendChanges sends the volume again whenever it changes, until the receiver wants
// no more or hangs up.
func sendChanges(ctx context.Context, conn io.ReadWriter, dir string, changes <-chan watch.Batch) error {
	for {
		var next wish
		if err := hear(conn, &next); err != nil || !next.Follow {
			return nil
		}
		entries, err := changed(ctx, dir, changes)
		if err != nil {
			return err
		}
		if _, err := sendEntries(conn, entries); err != nil {
			return err
		}
	}
}

// changed waits until the volume has changed, and reads it. Where something of it
// went while it was read, that is a change, too, which is told next.
func changed(ctx context.Context, dir string, changes <-chan watch.Batch) ([]fakeEntry, error) {
	for {
		select {
		case <-changes:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if entries, err := readVolume(dir); !errors.Is(err, fs.ErrNotExist) {
			return entries, err
		}
	}
}

// Follow implements Syncer. It suspends nothing, and looks after no conflicts.
func (f *Fake) Follow(ctx context.Context, conn io.ReadWriter, dir string, opts replica.FollowOptions) error {
	_, err := f.guard(ctx, conn, func() (replica.Report, error) {
		for {
			var progress replica.Progress
			report, err := f.receiveOnce(conn, dir, func(p replica.Progress) { progress = p })
			if err != nil {
				return replica.Report{}, err
			}
			if opts.Tell != nil {
				opts.Tell(replica.FollowState{
					Phase: replica.Synced, SyncedAt: time.Now(), Digest: report.Digest,
					Files: report.Files, Bytes: report.Bytes, Progress: progress,
				})
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
