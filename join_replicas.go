package budgie

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/budgiehq/budgie/discovery"
	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/peer"
	"github.com/budgiehq/budgie/store"
)

// Replicas that join at the same time must not together exceed replicas.max. Each
// is created as one that has yet to find room (lifecycle.Joining), and says so to
// whoever asks. When it serves, and is announced, whoever keeps it looks for the
// others, and it stays or withdraws. It yields to those that are past that,
// whatever the clocks say, and among those that look at the same time to those
// that came before. One that could stay if another, which came later, does not
// stay, waits for what becomes of that one: it may have looked already.

// joinConfirm is how long a new replica looks for others that joined at the same
// time. A new instance is probed for for three quarters of a second before it is
// announced (RFC 6762 section 8.1).
const joinConfirm = 1500 * time.Millisecond

// roomPatience bounds how long a replica waits for what becomes of others, after
// which they count as staying. Whoever joins waits longer.
const roomPatience = 20 * time.Second

// mostHeldUp is how long a program may be held up while it looks. It hears nothing
// meanwhile, and does not come to be announced: it is less than what joinConfirm has
// to spare over the time that announcing takes. roomTries bounds how often it
// looks again for that reason.
const (
	mostHeldUp = 400 * time.Millisecond
	roomTries  = 5
)

// withdrawPatience bounds how long the removal of a replica may take that has to
// go.
const withdrawPatience = 30 * time.Second

// open returns what the record of the new replica says of the join; nil where
// there is always room.
func (j *joining) open() *lifecycle.Joining {
	if j.plan.Spec.Replicas.Max == 0 {
		return nil
	}
	open := &lifecycle.Joining{}
	for _, r := range j.plan.Replicas {
		open.Known = append(open.Known, lifecycle.KnownReplica{ID: r.ID, Node: r.Node, Addr: r.Addr})
	}
	return open
}

// awaitRoom returns when a new replica may stay, with its record.
func (c *Client) awaitRoom(ctx context.Context, rec lifecycle.Container) (lifecycle.Container, error) {
	if rec.Joining == nil || rec.Finished() {
		return rec, nil // a job that is done takes no room
	}
	waiting, cancel := context.WithTimeout(ctx, 2*roomPatience)
	defer cancel()
	err := c.follow(waiting, rec.ID, func(r lifecycle.Container) (bool, error) {
		rec = r
		if r.Joining == nil || r.Joining.Withdrawn || r.Finished() {
			return true, nil
		}
		if r.Detached {
			return false, c.ensureSupervisor(waiting)
		}
		return false, nil
	})
	switch {
	case err == nil && (rec.Joining == nil || jobDone(rec)):
		return rec, nil
	case err == nil && rec.Joining.Withdrawn:
		err = fmt.Errorf("%w: %s", ErrReplicas, rec.Reason)
	case err == nil:
		err = &NotReadyError{Container: rec, Reason: rec.EndReason()}
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case waiting.Err() != nil:
		err = fmt.Errorf("whoever looks after the replica did not find out within %s whether the service has room for it: see %s in the data directory", 2*roomPatience, "supervisor.log")
	case errors.Is(err, store.ErrNotFound):
		if last, ok := c.removedRecord(rec.ID); ok && jobDone(last) {
			return last, nil
		}
		err = fmt.Errorf("the replica was removed before it was clear whether the service has room for it: %w", err)
	}
	return lifecycle.Container{}, err
}

// takeBack removes a replica that is not to stay, if there is one.
func (c *Client) takeBack(ctx context.Context, id string) error {
	if id == "" || c.open() != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), withdrawPatience)
	defer cancel()
	if err := c.Remove(ctx, id, Force()); err != nil && !errors.Is(err, ErrNotFound) {
		return fmt.Errorf("remove the replica again: %w", err)
	}
	return nil
}

// findRoom begins to find out whether a replica that this client keeps, and that
// has joined and serves, may stay.
func (c *Client) findRoom(rec lifecycle.Container) {
	if rec.Joining == nil || rec.Joining.Withdrawn || !rec.Ready || rec.Desired != lifecycle.WantRunning {
		return
	}
	c.mu.Lock()
	under := c.findingRoom[rec.ID]
	c.findingRoom[rec.ID] = true
	c.mu.Unlock()
	if under {
		return
	}
	c.spawn(func() {
		again := true
		for tries := 1; again; tries++ {
			again = c.stayOrWithdraw(c.life, rec, tries < roomTries)
		}
		c.mu.Lock()
		delete(c.findingRoom, rec.ID)
		c.mu.Unlock()
	})
}

// stayOrWithdraw finds out whether a replica may stay and stores that; not, where
// it is strict, if this program was held up meanwhile. It reports whether that is to
// be tried again.
func (c *Client) stayOrWithdraw(ctx context.Context, rec lifecycle.Container, strict bool) (again bool) {
	log := c.log.With("container", rec.ShortID(), "name", rec.Name)
	most := rec.Spec.Replicas.Max
	until := time.Now().Add(roomPatience)
	heldUp := watchPauses()
	defer heldUp.stop()
	var room others
	var err error
	for {
		if room, err = c.lookForOthers(ctx, rec); ctx.Err() != nil {
			return false
		} else if err != nil {
			log.Warn("cannot find out whether the service has room for the replica; trying again", "error", err)
			wait(ctx, storeRetry)
			return c.stillJoins(ctx, rec)
		}
		if room.first >= most || room.first+room.open < most || time.Now().After(until) {
			break
		}
	}
	n := room.first
	if n < most {
		n += room.open
	}
	_, err = store.Modify(ctx, c.store, rec.ID, func(r *lifecycle.Container) error {
		switch {
		case !sameJoin(*r, rec) || strict && heldUp.longest() > mostHeldUp:
			return store.ErrUnchanged // what was seen is no longer of use
		case n < most:
			r.Joining = nil
			return nil
		}
		r.Joining.Withdrawn = true
		r.Desired, r.RestartAt = lifecycle.WantStopped, time.Time{}
		r.AutoRemove = false // who joins has yet to learn why
		r.Reason = fmt.Sprintf("it joined, but %d others came first, and replicas.max is %d", n, most)
		return nil
	})
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		log.Warn("cannot store whether the service has room for the replica; trying again", "error", err)
		wait(ctx, storeRetry)
	}
	return c.stillJoins(ctx, rec)
}

// sameJoin reports whether a replica still runs as it did when it began to look
// for room, which it has yet to find.
func sameJoin(now, then lifecycle.Container) bool {
	return now.Joining != nil && !now.Joining.Withdrawn && now.Ready && now.StartedAt.Equal(then.StartedAt) && now.Desired == lifecycle.WantRunning
}

// stillJoins reports whether a replica has yet to find room in the way that it
// began to look for it. Otherwise the next change of its record is waited for.
func (c *Client) stillJoins(ctx context.Context, rec lifecycle.Container) bool {
	now, err := c.store.Get(ctx, rec.ID)
	return ctx.Err() == nil && (err != nil && !errors.Is(err, store.ErrNotFound) && !gone(err) || err == nil && sameJoin(now, rec))
}

// others counts the replicas on other nodes that matter to one that looks for
// room.
type others struct {
	// first are those that it has to yield to, and open those that came later,
	// but may have found room already.
	first, open int
}

// lookForOthers counts the replicas of a replica's service on other nodes, as they
// say themselves. One that the join knew of, that is announced, and whose node
// does not answer now, counts as still there.
func (c *Client) lookForOthers(ctx context.Context, rec lifecycle.Container) (others, error) {
	f, flock, err := c.membership()
	if err != nil {
		return others{}, err
	}
	all, err := c.hear(ctx, joinConfirm, func(discovery.Service) bool { return false })
	if err != nil {
		if ctx.Err() != nil {
			return others{}, context.Cause(ctx)
		}
		c.log.Warn("only the replicas that the join knew of are asked whether they are still there", "error", err)
		wait(ctx, joinConfirm)
	}
	announced := make(map[string]discovery.Service)
	var hints []discovery.Service
	for _, s := range all {
		if s.ServiceID == rec.ServiceID && askable(s, flock, f.NodeID()) {
			announced[s.ID] = s
			hints = append(hints, s)
		}
	}
	for _, k := range rec.Joining.Known {
		if s := endpointOf(k); s.PeerPort != 0 && keyOf(announced[k.ID]) != keyOf(s) {
			hints = append(hints, s)
		}
	}
	members, _ := prove(ctx, f, hints)
	defer func() {
		for _, m := range members {
			m.close()
		}
	}()
	return count(rec, members, announced), ctx.Err()
}

// endpointOf returns where a replica's node answered when the join began.
func endpointOf(k lifecycle.KnownReplica) discovery.Service {
	at, err := netip.ParseAddrPort(k.Addr)
	if err != nil {
		return discovery.Service{}
	}
	return discovery.Service{Node: k.Node, Addrs: []netip.Addr{at.Addr()}, PeerPort: int(at.Port())}
}

// count counts the other replicas by what members say and what is announced.
func count(rec lifecycle.Container, members []*member, announced map[string]discovery.Service) others {
	var n others
	seen := make(map[string]bool)
	answered := make(map[endpointKey]bool)
	for _, m := range members {
		answered[endpointKey{m.node, int(m.client.Addr().Port())}] = true
		for _, o := range m.containers {
			switch {
			case o.ServiceID != rec.ServiceID || seen[o.ID]:
				continue
			case !o.Joining, o.Ready && before(o, rec):
				n.first++
			case o.Ready:
				n.open++
			default:
				continue // it looks when it is ready, and then sees this one
			}
			seen[o.ID] = true
		}
	}
	for _, k := range rec.Joining.Known {
		s, there := announced[k.ID]
		if there && !seen[k.ID] && s.Node == k.Node && !answered[keyOf(s)] && !answered[keyOf(endpointOf(k))] {
			n.first++
			seen[k.ID] = true
		}
	}
	return n
}

// before reports whether another replica came before this machine's, by the
// clocks of both, and by their ids where those agree.
func before(other peer.Container, own lifecycle.Container) bool {
	if c := other.CreatedAt.Compare(own.CreatedAt); c != 0 {
		return c < 0
	}
	return other.ID < own.ID
}
