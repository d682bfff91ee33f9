package budgie

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/discovery"
	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/peer"
	"github.com/budgiehq/budgie/replica"
	"github.com/budgiehq/budgie/store"
)

// volumeCopies keep the copies of a joined container's volumes as their owner has
// them, for as long as the container is kept.
type volumeCopies struct {
	k *keeper

	mu sync.Mutex
	// owner is the replica that owns the volumes, zero while none is known, and
	// moved is closed when that changes.
	owner volumeOwner
	moved chan struct{}
	// states are what was last heard of each copy, and told what was stored.
	states, told []lifecycle.VolumeSync
	toldAt       time.Time
}

// volumeOwner is where the owner of a service's volumes answers.
type volumeOwner struct {
	id   string
	node string
	addr netip.AddrPort
}

// followVolumes begins to follow the owner of the container's volumes, if it is
// another, and returns what ends it.
func (k *keeper) followVolumes() (stop func()) {
	rec := k.record()
	if rec.ID == rec.ServiceID || len(rec.Spec.Volumes) == 0 {
		return func() {}
	}
	ctx, cancel := context.WithCancel(k.c.life)
	events, err := k.c.browse(ctx)
	if err != nil {
		cancel()
		return func() {} // discovery is off, or the client ends
	}
	v := &volumeCopies{k: k, moved: make(chan struct{})}
	var wg sync.WaitGroup
	for i, vol := range rec.Spec.Volumes {
		v.states = append(v.states, lifecycle.VolumeSync{Target: vol.Target, Phase: lifecycle.SyncStarting})
		wg.Go(func() { v.keepUp(ctx, i, vol) })
	}
	wg.Go(func() {
		var r *roster
		r = k.c.newRoster(0, func(string) { v.choose(r, rec.ServiceID) })
		r.run(ctx, only(ctx, events, func(s discovery.Service) bool { return s.ServiceID == rec.ServiceID && s.ID != rec.ID }))
	})
	return func() {
		cancel()
		wg.Wait()
	}
}

// choose follows the owner to where it answers.
func (v *volumeCopies) choose(r *roster, service string) {
	var owner volumeOwner
	if told, addr, _, ok := r.proved(service); ok && told.ServiceID == service {
		owner = volumeOwner{told.ID, told.Node, addr}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if owner != v.owner {
		v.owner = owner
		close(v.moved)
		v.moved = make(chan struct{})
	}
}

func (v *volumeCopies) where() (volumeOwner, <-chan struct{}) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.owner, v.moved
}

// keepUp follows a volume until ctx ends.
func (v *volumeCopies) keepUp(ctx context.Context, i int, vol bunfile.Volume) {
	retry := rosterRetry
	for ctx.Err() == nil {
		owner, moved := v.where()
		var again <-chan time.Time
		if owner == (volumeOwner{}) {
			v.cut(i, owner, errors.New("the node that owns the volume does not answer: the copy is as old as is said"))
		} else {
			synced, err := v.follow(ctx, i, vol, owner, moved)
			if ctx.Err() != nil {
				return
			}
			v.cut(i, owner, err)
			if synced {
				retry = rosterRetry
			}
			again = time.After(retry)
			retry = min(2*retry, rosterMaxRetry)
		}
		select {
		case <-moved:
			retry = rosterRetry
		case <-again:
		case <-ctx.Done():
		}
	}
}

// follow follows a volume over one connection, for as long as its owner is where
// it is. It reports whether the copy was as the source meanwhile.
func (v *volumeCopies) follow(ctx context.Context, i int, vol bunfile.Volume, owner volumeOwner, moved <-chan struct{}) (synced bool, err error) {
	f, err := v.k.c.openFlock()
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-moved:
			cancel()
		case <-ctx.Done():
		}
	}()
	client := peer.NewClient(f, owner.node, []netip.AddrPort{owner.addr})
	defer client.Close()
	err = client.ReceiveVolume(ctx, owner.id, vol.Target, func(conn io.ReadWriteCloser) error {
		return v.k.c.cfg.syncer.Follow(ctx, conn, vol.Source, replica.FollowOptions{
			Tell: func(s replica.FollowState) {
				synced = synced || s.Phase == replica.Synced
				v.take(i, owner, s)
			},
			Accepted: func() string { return accepted(v.k.record(), v.state(i).Held) },
		})
	})
	return synced, err
}

// accepted returns what is held, if a person accepted it.
func accepted(rec lifecycle.Container, held string) string {
	if slices.Contains(rec.AcceptedLoss, held) {
		return held
	}
	return ""
}

func (v *volumeCopies) state(i int) lifecycle.VolumeSync {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.states[i]
}

// take notes what is heard of a copy.
func (v *volumeCopies) take(i int, owner volumeOwner, s replica.FollowState) {
	v.set(i, func(now *lifecycle.VolumeSync) {
		now.Node = owner.node
		now.Phase = lifecycle.SyncPhase(s.Phase)
		if !s.SyncedAt.IsZero() {
			now.SyncedAt = s.SyncedAt.UTC().Round(0)
		}
		now.PendingFiles, now.PendingBytes = s.PendingFiles, s.PendingBytes
		now.Reason, now.Held = s.Reason, s.Held
		now.Conflicts = s.ConflictCount
		if n := len(s.Conflicts); n > 0 && s.Conflicts[n-1].Kept != "" {
			now.Kept = s.Conflicts[n-1].Kept
		}
	})
}

// cut notes that a copy is not followed, and why.
func (v *volumeCopies) cut(i int, owner volumeOwner, err error) {
	v.set(i, func(now *lifecycle.VolumeSync) {
		if owner.node != "" {
			now.Node = owner.node
		}
		now.Phase, now.Reason = lifecycle.SyncCut, err.Error()
	})
}

// How often the state of copies is stored: while nothing but its time changes, and
// while much does.
const (
	syncStoreIdle = 15 * time.Second
	syncStoreBusy = time.Second
)

// set changes a state, and stores it where that is news.
func (v *volumeCopies) set(i int, change func(*lifecycle.VolumeSync)) {
	v.mu.Lock()
	defer v.mu.Unlock()
	change(&v.states[i])
	if !v.due() {
		return
	}
	states := slices.Clone(v.states)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(v.k.c.life), letGoTimeout)
	defer cancel()
	_, err := store.Modify(ctx, v.k.c.store, v.k.id, func(c *lifecycle.Container) error {
		c.Volumes = states
		c.AcceptedLoss = slices.DeleteFunc(c.AcceptedLoss, func(held string) bool {
			return !slices.ContainsFunc(states, func(s lifecycle.VolumeSync) bool { return s.Held == held })
		})
		return nil
	})
	if err != nil {
		v.k.log.Debug("the state of the copies of volumes could not be stored", "error", err)
		return
	}
	v.told, v.toldAt = states, time.Now()
	v.k.poke()
}

// due reports whether the states should be stored.
func (v *volumeCopies) due() bool {
	if len(v.told) != len(v.states) {
		return true
	}
	since := time.Since(v.toldAt)
	for i, now := range v.states {
		was := v.told[i]
		if was.Phase != now.Phase && (now.Phase != lifecycle.Syncing || since >= syncStoreBusy) ||
			was.Held != now.Held || was.Reason != now.Reason || was.Conflicts != now.Conflicts || was.Node != now.Node {
			return true
		}
		if was.PendingBytes != now.PendingBytes && since >= syncStoreBusy || was.SyncedAt != now.SyncedAt && since >= syncStoreIdle {
			return true
		}
	}
	return false
}

// AcceptLoss lets the copies of volumes of the container that ref means (see
// [Client.Get]) become what their source has become, although much of them is lost
// by it, and returns the states of those that wait for that. What is lost is kept
// beside the copy for a while. It returns [ErrNothingHeld] where no copy waits.
func (c *Client) AcceptLoss(ctx context.Context, ref string) ([]lifecycle.VolumeSync, error) {
	rec, err := c.Get(ctx, ref)
	if err != nil {
		return nil, err
	}
	var held []lifecycle.VolumeSync
	_, err = store.Modify(ctx, c.store, rec.ID, func(c *lifecycle.Container) error {
		held = nil
		c.AcceptedLoss = nil
		for _, v := range c.Volumes {
			if v.Held != "" {
				held = append(held, v)
				c.AcceptedLoss = append(c.AcceptedLoss, v.Held)
			}
		}
		if held == nil {
			return ErrNothingHeld
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("accept what volumes of %s lose: %w", rec.Name, err)
	}
	return held, nil
}
