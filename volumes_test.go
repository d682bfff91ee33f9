package budgie_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/budgiehq/budgie"
	"github.com/budgiehq/budgie/discovery/discoverytest"
	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/replica"
	"github.com/budgiehq/budgie/replica/replicatest"
	"github.com/budgiehq/budgie/store"
	"github.com/budgiehq/budgie/trust"
)

// syncedAs waits until a container's volumes are in a state.
func syncedAs(t *testing.T, on *fakes, id, what string, is func(lifecycle.VolumeSync) bool) lifecycle.VolumeSync {
	t.Helper()
	changes, err := on.store.Watch(t.Context())
	noError(t, err)
	patience := time.After(30 * time.Second)
	for {
		rec, err := on.Get(t.Context(), id)
		noError(t, err)
		if len(rec.Volumes) == 1 && is(rec.Volumes[0]) {
			return rec.Volumes[0]
		}
		select {
		case <-changes:
		case <-patience:
			t.Fatalf("waiting for %s: the volumes are %+v", what, rec.Volumes)
		}
	}
}

// follower is a service with a volume, and a replica of it whose copy is synced.
func follower(t *testing.T) (a, b *fakes, source string, rec lifecycle.Container) {
	t.Helper()
	network, token := discoverytest.NewNetwork(), trust.NewToken()
	a, b = newNode(t, network, token), newNode(t, network, token)
	source = runWithVolume(t, a)
	return a, b, source, joinSync(t, b)
}

// joinSync joins a node to what runWithVolume runs, and waits until its copy is synced.
func joinSync(t *testing.T, n *fakes) lifecycle.Container {
	t.Helper()
	rec, err := n.Join(t.Context(), "web")
	noError(t, err)
	syncedAs(t, n, rec.ID, "the first sync", func(v lifecycle.VolumeSync) bool {
		return isSynced(v) && v.Target == "/data" && v.Node != "" && !v.SyncedAt.IsZero()
	})
	return rec
}

// sameWithin waits until two trees are the same.
func sameWithin(t *testing.T, source, dir string) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; <-time.After(10 * time.Millisecond) {
		diff := replicatest.Diff(source, dir)
		if diff == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the copy does not follow: %s", diff)
		}
	}
}

// What changes in a volume of the service's first replica reaches the others, for
// as long as they live.
func TestVolumesFollow(t *testing.T) {
	_, b, source, rec := follower(t)
	dir := rec.Spec.Volumes[0].Source
	noError(t, os.WriteFile(filepath.Join(source, "index.html"), []byte("<h1>changed</h1>"), 0o644))
	sameWithin(t, source, dir)
	noError(t, os.MkdirAll(filepath.Join(source, "more/and"), 0o755))
	noError(t, os.WriteFile(filepath.Join(source, "more/and/more"), []byte("more"), 0o644))
	sameWithin(t, source, dir)
	noError(t, b.Stop(t.Context(), rec.ID))
	noError(t, os.WriteFile(filepath.Join(source, "late"), nil, 0o644))
	if _, err := os.Stat(filepath.Join(dir, "late")); err == nil {
		t.Error("the copy of a stopped container follows")
	}
}

// silentSyncer follows, and tells nothing of it.
type silentSyncer struct{ budgie.Syncer }

func (silentSyncer) Follow(ctx context.Context, _ io.ReadWriter, _ string, _ replica.FollowOptions) error {
	<-ctx.Done()
	return ctx.Err()
}

// A replica that has joined, and does not know of its copies yet, does not pass for
// their owner, and is not made it by the way.
func TestVolumesOfNewReplica(t *testing.T) {
	network, token := discoverytest.NewNetwork(), trust.NewToken()
	a, b := newNode(t, network, token), newNode(t, network, token, budgie.WithSyncer(silentSyncer{replica.New()}))
	runWithVolume(t, a)
	rec, err := b.Join(t.Context(), "web")
	noError(t, err)
	list, err := b.VolumeStatus(t.Context(), "web")
	if err != nil || len(list) != 2 || !list[1].Local || list[1].Sync.Phase != lifecycle.SyncStarting || list[1].Term != 0 {
		t.Errorf("the status is %+v, %v", list, err)
	}
	if _, err := b.Promote(t.Context(), rec.ID); !errors.Is(err, budgie.ErrOwner) || !strings.Contains(err.Error(), "not known yet") {
		t.Errorf("promoted: %v", err)
	}
	if rec, err = b.Promote(t.Context(), rec.ID, budgie.Force()); err != nil || rec.VolumesTerm() != 2 {
		t.Errorf("promoted by force to %d, %v", rec.VolumesTerm(), err)
	}
}

// V9: what a copy is behind, and since when, is said; it goes on where it was cut
// off.
func TestCaseV9StateIsToldWhenTheOwnerIsGone(t *testing.T) {
	a, b, source, rec := follower(t)
	noError(t, a.Stop(t.Context(), "web"))
	v := syncedAs(t, b, rec.ID, "the end", func(v lifecycle.VolumeSync) bool { return v.Phase == lifecycle.SyncCut })
	if v.Reason == "" || v.SyncedAt.IsZero() {
		t.Errorf("the state is %+v", v)
	}
	if diff := replicatest.Diff(source, rec.Spec.Volumes[0].Source); diff != "" {
		t.Error(diff)
	}
}

// V1: a source that loses most of what it had takes nothing from the copies until
// a person says so.
func TestCaseV1LossWaitsForConsent(t *testing.T) {
	_, b, source, rec := follower(t)
	if _, err := b.AcceptLoss(t.Context(), rec.ID); !errors.Is(err, budgie.ErrNothingHeld) {
		t.Errorf("with nothing held: %v", err)
	}
	noError(t, os.RemoveAll(filepath.Join(source, "sub")))
	noError(t, os.Remove(filepath.Join(source, "index.html")))
	v := syncedAs(t, b, rec.ID, "suspension", func(v lifecycle.VolumeSync) bool { return v.Phase == lifecycle.SyncSuspended })
	if v.Held == "" || v.Reason == "" {
		t.Errorf("the state is %+v", v)
	}
	dir := rec.Spec.Volumes[0].Source
	if _, err := os.Stat(filepath.Join(dir, "index.html")); err != nil {
		t.Error(err)
	}
	held, err := b.AcceptLoss(t.Context(), rec.ID)
	if err != nil || len(held) != 1 || held[0].Held != v.Held {
		t.Errorf("accepted %+v, %v", held, err)
	}
	sameWithin(t, source, dir)
	syncedAs(t, b, rec.ID, "sync", func(v lifecycle.VolumeSync) bool { return v.Phase == lifecycle.Synced && v.Held == "" })
}

// V8: what a replica writes into its copy is reported and kept.
func TestCaseV8ReplicasWritesAreReported(t *testing.T) {
	_, b, source, rec := follower(t)
	dir := rec.Spec.Volumes[0].Source
	noError(t, os.WriteFile(filepath.Join(dir, "mine"), []byte("precious"), 0o600))
	v := syncedAs(t, b, rec.ID, "the conflict", func(v lifecycle.VolumeSync) bool { return v.Conflicts == 1 })
	if got, err := os.ReadFile(v.Kept); err != nil || string(got) != "precious" {
		t.Errorf("kept as %q: %q, %v", v.Kept, got, err)
	}
	sameWithin(t, source, dir)
}

func isSynced(v lifecycle.VolumeSync) bool { return v.Phase == lifecycle.Synced }

// isCut reports whether the owner of a copy is gone.
func isCut(v lifecycle.VolumeSync) bool { return v.Phase == lifecycle.SyncCut && !v.OwnerAnswers }

// A replica whose owner is gone becomes the owner: the others follow it. The former
// owner, when it comes back, overwrites nothing, and nothing of it is overwritten.
func TestPromote(t *testing.T) {
	network, token := discoverytest.NewNetwork(), trust.NewToken()
	a, b, c := newNode(t, network, token), newNode(t, network, token), newNode(t, network, token)
	source := runWithVolume(t, a)
	second, third := joinSync(t, b), joinSync(t, c)
	if _, err := b.Promote(t.Context(), second.ID); !errors.Is(err, budgie.ErrOwner) || !strings.Contains(err.Error(), "answers") {
		t.Errorf("with the owner there: %v", err)
	}
	if _, err := a.Promote(t.Context(), "web"); !errors.Is(err, budgie.ErrOwner) || !strings.Contains(err.Error(), "already") {
		t.Errorf("of the owner: %v", err)
	}
	network.Partition(a.node)
	network.Expire()
	syncedAs(t, b, second.ID, "the cut", isCut)
	syncedAs(t, c, third.ID, "the cut", isCut)
	_, err := store.Modify(t.Context(), b.store, second.ID, func(r *lifecycle.Container) error { r.Restored = true; return nil })
	noError(t, err)
	rec, err := b.Promote(t.Context(), second.ID)
	if err != nil || rec.VolumesTerm() != 2 || rec.Restored {
		t.Fatalf("promoted to %d, restored %t, %v", rec.VolumesTerm(), rec.Restored, err)
	}
	changes, err := b.store.Watch(t.Context())
	noError(t, err)
	here, there := second.Spec.Volumes[0].Source, third.Spec.Volumes[0].Source
	noError(t, os.WriteFile(filepath.Join(here, "index.html"), []byte("of the second"), 0o644))
	sameWithin(t, here, there)
	syncedAs(t, c, third.ID, "sync with the new owner", func(v lifecycle.VolumeSync) bool { return isSynced(v) && v.Term == 2 })
	for rec, err = b.Get(t.Context(), second.ID); err == nil && rec.Volumes != nil; rec, err = b.Get(t.Context(), second.ID) {
		<-changes // the owner has nothing to tell of copies
	}
	noError(t, err)
	d := newNode(t, network, token)
	fourth, err := d.Join(t.Context(), "web")
	noError(t, err)
	sameWithin(t, here, fourth.Spec.Volumes[0].Source)
	network.Heal()
	first := syncedAs(t, a, rec.ServiceID, "the end of a reign", func(v lifecycle.VolumeSync) bool { return v.Phase == lifecycle.SyncSuperseded && v.OwnerAnswers })
	if !strings.Contains(first.Reason, "promote") || first.Term != 2 {
		t.Errorf("the former owner says %+v", first)
	}
	noError(t, os.WriteFile(filepath.Join(source, "stale"), nil, 0o644))
	noError(t, os.WriteFile(filepath.Join(here, "fresh"), nil, 0o644))
	sameWithin(t, here, there)
	if _, err := os.Stat(filepath.Join(there, "stale")); err == nil {
		t.Error("the former owner is followed")
	}
	if got, err := os.ReadFile(filepath.Join(source, "index.html")); err != nil || string(got) != "<h1>hi</h1>" {
		t.Errorf("the former owner has %q, %v", got, err)
	}
	if _, err := a.Promote(t.Context(), rec.ServiceID); !errors.Is(err, budgie.ErrOwner) || !strings.Contains(err.Error(), "answers") {
		t.Errorf("with the new owner there: %v", err)
	}
	rec, err = a.Promote(t.Context(), rec.ServiceID, budgie.Force())
	if err != nil || rec.VolumesTerm() != 3 {
		t.Fatalf("promoted to %d, %v", rec.VolumesTerm(), err)
	}
	syncedAs(t, b, second.ID, "sync with the first again", func(v lifecycle.VolumeSync) bool { return isSynced(v) && v.Term == 3 })
	sameWithin(t, source, here)
	sameWithin(t, source, there)
}

// A former owner that comes back while the one that was promoted since is away is
// followed by nobody, and gives nobody its volumes: what is there is older than the
// copies.
func TestFormerOwnerIsNotFollowedWhileTheOwnerIsAway(t *testing.T) {
	network, token := discoverytest.NewNetwork(), trust.NewToken()
	a, b, c := newNode(t, network, token), newNode(t, network, token), newNode(t, network, token)
	source := runWithVolume(t, a)
	second, third := joinSync(t, b), joinSync(t, c)
	network.Partition(a.node)
	network.Expire()
	syncedAs(t, b, second.ID, "the cut", isCut)
	_, err := b.Promote(t.Context(), second.ID)
	noError(t, err)
	here, there := second.Spec.Volumes[0].Source, third.Spec.Volumes[0].Source
	noError(t, os.WriteFile(filepath.Join(here, "index.html"), []byte("of the second"), 0o644))
	sameWithin(t, here, there)
	syncedAs(t, c, third.ID, "sync with the new owner", func(v lifecycle.VolumeSync) bool { return isSynced(v) && v.Term == 2 })
	noError(t, b.Stop(t.Context(), second.ID))
	syncedAs(t, c, third.ID, "the cut from the new owner", isCut)

	network.Heal()
	first := syncedAs(t, a, second.ServiceID, "what the copy knows", func(v lifecycle.VolumeSync) bool { return v.Phase == lifecycle.SyncSuperseded })
	if first.Term != 2 || first.Node == "" {
		t.Errorf("the former owner says %+v", first)
	}
	noError(t, os.WriteFile(filepath.Join(source, "stale"), nil, 0o644))
	fourth, err := newNode(t, network, token).Join(t.Context(), "web")
	noError(t, err)
	if diff := replicatest.Diff(there, fourth.Spec.Volumes[0].Source); diff != "" {
		t.Errorf("who joins now has not what the copy has: %s", diff)
	}
	if v := syncedAs(t, c, third.ID, "no other owner", isCut); v.Term != 2 {
		t.Errorf("the copy says %+v", v)
	}
	if diff := replicatest.Diff(here, there); diff != "" {
		t.Errorf("the copy is not what the second wrote: %s", diff)
	}
	rec, err := c.Promote(t.Context(), third.ID)
	if err != nil || rec.VolumesTerm() != 3 {
		t.Errorf("promoted to %d, %v", rec.VolumesTerm(), err)
	}
}
