package budgie

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
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
	// replicas are the service's replicas on other nodes that answer, by id.
	replicas map[string]volumeOwner
	// owner is the one that owns the volumes, this container itself perhaps, zero
	// while none is known, and moved is closed when that changes.
	owner volumeOwner
	moved chan struct{}
	// newest is the owner of the greatest term that was ever heard of, also where it
	// does not answer: nobody who owned the volumes before is followed any more.
	// chosen is what it was when the owner was last chosen.
	newest, chosen volumeOwner
	// states are what was last heard of each copy, and told what was stored.
	states, told []lifecycle.VolumeSync
	toldAt       time.Time
	// owning says that nothing is stored, since this node owns the volumes.
	owning bool
}

// volumeOwner is a replica that may own the service's volumes: in which term, and
// where it answers.
type volumeOwner struct {
	id   string
	node string
	addr netip.AddrPort
	term uint64
}

// followVolumes begins to follow the owner of the container's volumes, whenever it
// is another, and returns what ends it.
func (k *keeper) followVolumes() (stop func()) {
	rec := k.record()
	if len(rec.Spec.Volumes) == 0 {
		return func() {}
	}
	v := &volumeCopies{k: k, replicas: make(map[string]volumeOwner), moved: make(chan struct{})}
	defer v.choose()
	for _, vol := range rec.Spec.Volumes {
		state := lifecycle.VolumeSync{Target: vol.Target, Phase: lifecycle.SyncStarting}
		for _, was := range rec.Volumes {
			if was.Target == vol.Target {
				state.Node, state.Term, state.SyncedAt = was.Node, was.Term, was.SyncedAt
				state.Conflicts, state.Kept = was.Conflicts, was.Kept
				v.newest.learn(volumeOwner{node: was.Node, term: was.Term})
			}
		}
		v.states = append(v.states, state)
	}
	k.mu.Lock()
	k.copies = v
	k.mu.Unlock()
	unwatch, err := k.c.watchReplicas(
		func(s discovery.Service) bool { return s.ServiceID == rec.ServiceID && s.ID != rec.ID },
		func(r *roster, id string) { v.hear(r, rec.ServiceID, id) })
	if err != nil {
		return func() {} // discovery is off, or the client ends
	}
	ctx, cancel := context.WithCancel(k.c.life)
	var wg sync.WaitGroup
	for i, vol := range rec.Spec.Volumes {
		wg.Go(func() { v.keepUp(ctx, i, vol) })
	}
	return func() {
		unwatch()
		cancel()
		wg.Wait()
	}
}

// hear takes what another node says of a replica.
func (v *volumeCopies) hear(r *roster, service, id string) {
	told, addr, _, ok := r.proved(id)
	v.mu.Lock()
	if ok && told.ServiceID == service && told.VolumesTerm > 0 {
		v.replicas[id] = volumeOwner{told.ID, told.Node, addr, told.VolumesTerm}
	} else {
		delete(v.replicas, id)
	}
	if ok && told.ServiceID == service {
		for _, copied := range told.Volumes {
			v.newest.learn(volumeOwner{node: copied.Node, term: copied.Term})
		}
	}
	v.mu.Unlock()
	v.choose()
}

// learn makes o another owner that is heard of, where that is of a greater term, whether
// it answers or not.
func (o *volumeOwner) learn(of volumeOwner) {
	if of.term > o.term && of.node != "" {
		*o = of
	}
}

// choose finds the owner among the replicas: the one of the greatest term, if there
// never was a greater one. It is asked again when this one's own term has changed.
func (v *volumeCopies) choose() {
	rec := v.k.record()
	v.mu.Lock()
	defer v.mu.Unlock()
	var owner volumeOwner
	if term := rec.VolumesTerm(); term > 0 {
		owner = volumeOwner{id: rec.ID, term: term}
	}
	for _, other := range v.replicas {
		if other.term > owner.term || other.term == owner.term && other.id < owner.id {
			owner = other
		}
	}
	v.newest.learn(owner)
	if owner.term < v.newest.term {
		owner = volumeOwner{}
	}
	if owner != v.owner || v.newest != v.chosen {
		v.owner, v.chosen = owner, v.newest
		close(v.moved)
		v.moved = make(chan struct{})
	}
}

// where returns the owner that answers, the newest one, and what is closed when the
// former is another.
func (v *volumeCopies) where() (owner, newest volumeOwner, moved <-chan struct{}) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.owner, v.newest, v.moved
}

// keepUp follows a volume until ctx ends.
func (v *volumeCopies) keepUp(ctx context.Context, i int, vol bunfile.Volume) {
	retry := rosterRetry
	if _, _, moved := v.where(); v.k.record().VolumesTerm() == 0 {
		select {
		case <-moved:
		case <-time.After(ownerFound):
		case <-ctx.Done():
		}
	}
	for ctx.Err() == nil {
		owner, newest, moved := v.where()
		var again <-chan time.Time
		switch rec := v.k.record(); {
		case owner.id == v.k.id:
			v.own()
		case owner.node == "" && (newest.term == 0 || v.k.c.isCopy(rec, vol)):
			v.cut(i, newest, false, errOwnerAway)
		case !v.k.c.isCopy(rec, vol):
			v.superseded(i, newest, owner.node != "")
		default:
			synced, err := v.follow(ctx, i, vol, owner, moved)
			if ctx.Err() != nil {
				return
			}
			if now, _, _ := v.where(); now == owner {
				v.ended(i, owner, err)
			}
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

// errOwnerAway is why a copy does not follow anybody.
var errOwnerAway = errors.New("the node that owns the volume does not answer: the copy is as old as is said. If it is gone for good, or runs a new service by now, promote a replica, or join that service")

// ownerFound is how long the owner may take to be found before it counts as gone.
const ownerFound = 3 * time.Second

// isCopy reports whether the volume's directory is a copy of this machine's, and
// not a directory that a person named.
func (c *Client) isCopy(rec lifecycle.Container, vol bunfile.Volume) bool {
	own := seedDir(c.cfg.dataDir, rec.ServiceID, vol.Target)
	if vol.Source == own {
		return true
	}
	// The data directory may have been named otherwise when it joined.
	here, err := realPath(own)
	there, otherErr := realPath(vol.Source)
	return err == nil && otherErr == nil && here == there
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
		now.Node, now.Term, now.OwnerAnswers = owner.node, owner.term, false
		now.Phase = lifecycle.SyncPhase(s.Phase)
		if !s.SyncedAt.IsZero() {
			now.SyncedAt = s.SyncedAt.UTC().Round(0)
		}
		now.PendingFiles, now.PendingBytes = s.PendingFiles, s.PendingBytes
		now.Reason, now.Held = s.Reason, s.Held
		now.NotKept = strings.Join(s.NotKept, "; ")
		now.Conflicts = s.ConflictCount
		if s.ConflictCount == 0 {
			now.Kept = ""
		} else if n := len(s.Conflicts); n > 0 && s.Conflicts[n-1].Kept != "" {
			now.Kept = s.Conflicts[n-1].Kept
		}
	})
}

// ended notes why following an owner that is there ended.
func (v *volumeCopies) ended(i int, owner volumeOwner, err error) {
	if !errors.Is(err, peer.ErrRefused) {
		v.cut(i, owner, !errors.Is(err, ErrUnreachable), err)
		return
	}
	v.set(i, func(now *lifecycle.VolumeSync) { // the owner's directory is gone, say
		now.Node, now.Term, now.OwnerAnswers = owner.node, owner.term, false
		now.Phase, now.Reason = lifecycle.SyncSuspended, err.Error()
	})
}

// cut notes that a copy is not followed, and why.
func (v *volumeCopies) cut(i int, owner volumeOwner, answers bool, err error) {
	v.set(i, func(now *lifecycle.VolumeSync) {
		if owner.node != "" {
			now.Node, now.Term = owner.node, owner.term
		}
		now.Phase, now.Reason, now.OwnerAnswers = lifecycle.SyncCut, err.Error(), answers
	})
}

// superseded notes that another node, which answers or not, was made the owner of
// what a person keeps here.
func (v *volumeCopies) superseded(i int, owner volumeOwner, answers bool) {
	back := "and does not answer now. To make this replica the owner again, promote it"
	if answers {
		back = "and answers. To make this replica the owner again, stop that one and promote this one, or force that: what was written there since is then set aside"
	}
	v.set(i, func(now *lifecycle.VolumeSync) {
		now.Node, now.Term, now.OwnerAnswers = owner.node, owner.term, answers
		now.Phase = lifecycle.SyncSuperseded
		now.Reason = fmt.Sprintf("node %.12s was made the owner of the volume meanwhile, %s. This replica's directory stays as it is, and is not what the others have; "+
			"to follow them, remove it and join the service", owner.node, back)
	})
}

// own notes that this node owns the volumes: there is nothing to tell of copies.
func (v *volumeCopies) own() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.owning {
		return
	}
	for i := range v.states {
		v.states[i] = lifecycle.VolumeSync{Target: v.states[i].Target, Phase: lifecycle.SyncStarting}
	}
	v.owning = true
	v.store(nil)
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
	if v.owning || v.due() {
		v.owning = false
		v.store(slices.Clone(v.states))
	}
}

// store stores the states. The caller holds the lock.
func (v *volumeCopies) store(states []lifecycle.VolumeSync) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(v.k.c.life), letGoTimeout)
	defer cancel()
	_, err := store.Modify(ctx, v.k.c.store, v.k.id, func(c *lifecycle.Container) error {
		if states == nil && c.Volumes == nil {
			return store.ErrUnchanged
		}
		c.Volumes = states
		c.AcceptedLoss = slices.DeleteFunc(c.AcceptedLoss, func(held string) bool { return !mayHold(states, held) })
		return nil
	})
	if err != nil {
		v.k.log.Debug("the state of the copies of volumes could not be stored", "error", err)
		return
	}
	v.told, v.toldAt = states, time.Now()
	v.k.poke()
}

// mayHold reports whether a content is held by a copy, or may be again once a copy that
// does not follow now does.
func mayHold(states []lifecycle.VolumeSync, held string) bool {
	return slices.ContainsFunc(states, func(s lifecycle.VolumeSync) bool {
		return s.Held == held || s.Held == "" && s.Phase != lifecycle.Synced
	})
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
			was.Held != now.Held || was.Reason != now.Reason || was.NotKept != now.NotKept || was.Conflicts != now.Conflicts || was.Node != now.Node || was.OwnerAnswers != now.OwnerAnswers {
			return true
		}
		if was.PendingBytes != now.PendingBytes && since >= syncStoreBusy || was.SyncedAt != now.SyncedAt && since >= syncStoreIdle {
			return true
		}
	}
	return false
}

// Promote makes this machine's replica that ref means (see [Client.Get]) the owner
// of the service's volumes: the other replicas follow what is written here. It is
// for when the owner is gone for good. When it comes back after all, its volumes
// stay as they are, and nobody follows them.
//
// It returns [ErrOwner] where the replica owns them already, and where their owner
// answers or a volume never was complete, unless [Force] is given. With it, what the
// owner that answers has written, and this replica has not, is set aside at the
// others.
func (c *Client) Promote(ctx context.Context, ref string, opts ...StopOption) (lifecycle.Container, error) {
	var cfg stopConfig
	for _, o := range opts {
		o(&cfg)
	}
	rec, err := c.Get(ctx, ref)
	if err != nil {
		return lifecycle.Container{}, err
	}
	rec, err = store.Modify(ctx, c.store, rec.ID, func(r *lifecycle.Container) error {
		switch {
		case len(r.Spec.Volumes) == 0:
			return fmt.Errorf("%w: the service has no volumes", ErrOwner)
		case r.VolumesTerm() > 0 && len(r.Volumes) == 0:
			return fmt.Errorf("%w: it is that already", ErrOwner)
		}
		term := max(1, r.VolumesTerm())
		for _, v := range r.Volumes {
			term = max(term, v.Term)
			switch {
			case cfg.force, v.Phase == lifecycle.SyncSuperseded && !v.OwnerAnswers:
			case v.Phase == lifecycle.SyncStarting && v.Node == "":
				return fmt.Errorf("%w: who owns volume %s is not known yet: try again in a moment, or force it", ErrOwner, v.Target)
			case v.Phase != lifecycle.SyncCut || v.OwnerAnswers:
				return fmt.Errorf("%w: node %.12s owns volume %s and answers: stop the replica there first, or force it", ErrOwner, v.Node, v.Target)
			case v.SyncedAt.IsZero():
				return fmt.Errorf("%w: since it runs under its supervisor, the copy of volume %s never was as its source: force it to make it the owner nevertheless", ErrOwner, v.Target)
			}
		}
		r.Term, r.Volumes = term+1, nil
		r.Restored = false // the others need it
		return nil
	})
	if err != nil {
		return lifecycle.Container{}, fmt.Errorf("promote %.80s: %w", ref, err)
	}
	return rec, nil
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
