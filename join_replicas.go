package budgie

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/budgiehq/budgie/discovery"
	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/peer"
)

// joinConfirm is how long a new replica looks for others that joined at the same
// time. A new instance is probed for for three quarters of a second before it is
// announced (RFC 6762 section 8.1).
const joinConfirm = 1500 * time.Millisecond

// stayOrWithdraw removes a new replica again where others that joined at the same
// time came first, and replicas.max leaves no room: each of them looks after it
// is announced, so that the last one to look has seen all.
func (c *Client) stayOrWithdraw(ctx context.Context, j *joining, rec lifecycle.Container) error {
	most := rec.Spec.Replicas.Max
	if most == 0 || rec.Finished() {
		return nil
	}
	others, err := c.otherReplicas(ctx, j.plan.ServiceID)
	if err == nil {
		var first int
		for _, o := range others {
			known := slices.ContainsFunc(j.plan.Replicas, func(r JoinReplica) bool { return r.ID == o.ID })
			if known || before(o, rec) {
				first++
			}
		}
		if first < most {
			return nil
		}
		err = fmt.Errorf("%w: %d others joined at the same time and came first, and replicas.max is %d", ErrReplicas, first, most)
	}
	return errors.Join(err, c.takeBack(ctx, rec.ID))
}

// takeBack removes a replica that is not to stay.
func (c *Client) takeBack(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), withdrawPatience)
	defer cancel()
	if err := c.Remove(ctx, id, Force()); err != nil && !errors.Is(err, ErrNotFound) {
		return fmt.Errorf("remove the replica again: %w", err)
	}
	return nil
}

// withdrawPatience bounds how long the removal of a replica may take that has to
// go.
const withdrawPatience = 30 * time.Second

// otherReplicas returns what other nodes of the flock say that they run of a
// service.
func (c *Client) otherReplicas(ctx context.Context, service string) ([]peer.Container, error) {
	f, flock, err := c.membership()
	if err != nil {
		return nil, err
	}
	all, err := c.hear(ctx, joinConfirm, func(discovery.Service) bool { return false })
	if err != nil {
		return nil, err
	}
	hints, err := chooseHints(all, service, flock, f.NodeID())
	if err != nil {
		return nil, nil // nobody else announces it
	}
	members, _ := prove(ctx, f, hints)
	var others []peer.Container
	for _, m := range members {
		for _, o := range m.containers {
			if o.ServiceID == service && o.State != lifecycle.Stopped {
				others = append(others, o)
			}
		}
		m.close()
	}
	return others, ctx.Err()
}

// before reports whether another replica came before this machine's, by the
// clocks of both, and by their ids where those agree.
func before(other peer.Container, own lifecycle.Container) bool {
	if c := other.CreatedAt.Compare(own.CreatedAt); c != 0 {
		return c < 0
	}
	return other.ID < own.ID
}
