package budgie_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/budgiehq/budgie"
	"github.com/budgiehq/budgie/discovery/discoverytest"
	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/replica"
	"github.com/budgiehq/budgie/replica/replicatest"
	"github.com/budgiehq/budgie/trust"
)

// fullSyncer follows as another one does, until full is closed: then the disk is full.
type fullSyncer struct {
	budgie.Syncer
	full chan struct{}
}

func (s fullSyncer) Follow(ctx context.Context, conn io.ReadWriter, dir string, opts replica.FollowOptions) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-s.full:
			cancel()
		case <-ctx.Done():
		}
	}()
	err := s.Syncer.Follow(ctx, conn, dir, opts)
	select {
	case <-s.full:
		return &os.PathError{Op: "write", Path: dir, Err: syscall.ENOSPC}
	default:
		return err
	}
}

// A copy that cannot be written is cut off, and its owner is none the less the owner.
func TestPromoteRefusesWhileTheOwnerAnswers(t *testing.T) {
	network, token := discoverytest.NewNetwork(), trust.NewToken()
	full := make(chan struct{})
	a, b := newNode(t, network, token), newNode(t, network, token, budgie.WithSyncer(fullSyncer{replica.New(replica.Remember(time.Hour, 1<<30)), full}))
	runWithVolume(t, a)
	rec := joinSync(t, b)
	close(full)
	syncedAs(t, b, rec.ID, "the full disk", func(v lifecycle.VolumeSync) bool {
		return v.Phase == lifecycle.SyncCut && v.OwnerAnswers && strings.Contains(v.Reason, "no space")
	})
	if rec, err := b.Promote(t.Context(), rec.ID); !errors.Is(err, budgie.ErrOwner) || !strings.Contains(err.Error(), "answers") {
		t.Errorf("promoted to term %d: %v", rec.VolumesTerm(), err)
	}
}

// A source that is gone suspends its copies, also where they connect only then.
func TestSourceThatIsGoneAtConnect(t *testing.T) {
	network, token := discoverytest.NewNetwork(), trust.NewToken()
	a, b := newNode(t, network, token), newNode(t, network, token)
	source := runWithVolume(t, a)
	rec := joinSync(t, b)
	network.Partition(a.node)
	network.Expire()
	syncedAs(t, b, rec.ID, "the cut", isCut)
	noError(t, os.Rename(source, source+".away"))
	network.Heal()
	v := syncedAs(t, b, rec.ID, "suspension", func(v lifecycle.VolumeSync) bool { return v.Phase == lifecycle.SyncSuspended })
	if !strings.Contains(v.Reason, "gone") {
		t.Errorf("it says %q", v.Reason)
	}
	if _, err := b.Promote(t.Context(), rec.ID); !errors.Is(err, budgie.ErrOwner) {
		t.Errorf("promoted: %v", err)
	}
	noError(t, os.Rename(source+".away", source))
	syncedAs(t, b, rec.ID, "sync", isSynced)
}

// A loss that is accepted while the owner is away is taken over when that is back.
func TestLossAcceptedWhileTheOwnerIsAway(t *testing.T) {
	network, token := discoverytest.NewNetwork(), trust.NewToken()
	a, b := newNode(t, network, token), newNode(t, network, token)
	source := runWithVolume(t, a)
	rec := joinSync(t, b)
	noError(t, errors.Join(os.RemoveAll(filepath.Join(source, "sub")), os.Remove(filepath.Join(source, "index.html"))))
	syncedAs(t, b, rec.ID, "suspension", func(v lifecycle.VolumeSync) bool { return v.Phase == lifecycle.SyncSuspended })
	network.Partition(a.node)
	network.Expire()
	syncedAs(t, b, rec.ID, "the cut", func(v lifecycle.VolumeSync) bool { return isCut(v) && v.Held != "" })
	_, err := b.AcceptLoss(t.Context(), rec.ID)
	noError(t, err)
	network.Heal()
	sameWithin(t, source, rec.Spec.Volumes[0].Source)
	syncedAs(t, b, rec.ID, "sync", isSynced)
	if rec, err := b.Get(t.Context(), rec.ID); err != nil || len(rec.AcceptedLoss) > 0 {
		t.Errorf("what was accepted is still: %q, %v", rec.AcceptedLoss, err)
	}
}

// A copy is one by whatever path the data directory is known.
func TestDataDirOfTwoNames(t *testing.T) {
	network, token := discoverytest.NewNetwork(), trust.NewToken()
	a := newNode(t, network, token)
	source := runWithVolume(t, a)
	data, link := t.TempDir(), filepath.Join(t.TempDir(), "link")
	noError(t, os.Symlink(data, link))
	b := newNode(t, network, token, budgie.WithDataDir(link))
	supervise(t, b.client(t, budgie.WithToken(token), budgie.WithDataDir(data)))
	rec, err := b.Join(t.Context(), "web", budgie.Detached())
	noError(t, err)
	syncedAs(t, b, rec.ID, "sync", isSynced)
	noError(t, os.WriteFile(filepath.Join(source, "index.html"), []byte("changed"), 0o644))
	sameWithin(t, source, rec.Spec.Volumes[0].Source)
}

// What a data directory is called is no pattern.
func TestDataDirNamedLikeAPattern(t *testing.T) {
	network, token := discoverytest.NewNetwork(), trust.NewToken()
	source := runWithVolume(t, newNode(t, network, token))
	data := filepath.Join(t.TempDir(), "a[b")
	noError(t, os.Mkdir(data, 0o700))
	rec, err := newNode(t, network, token, budgie.WithDataDir(data)).Join(t.Context(), "web")
	noError(t, err)
	if diff := replicatest.Diff(source, rec.Spec.Volumes[0].Source); diff != "" {
		t.Error(diff)
	}
}
