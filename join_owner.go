package budgie

import (
	"context"
	"fmt"
	"slices"

	"github.com/budgiehq/budgie/discovery"
	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/peer"
)

// Volumes come from the node that owns them, and what is heard first of a service need
// not be that one. Replicas with copies know whose they are, and it is looked for.

// newestOwner returns who owns the service's volumes, by what the members that run it
// say of themselves and have heard of others: the owner of the greatest term.
func (j *joining) newestOwner() volumeOwner {
	var newest volumeOwner
	for _, m := range j.members {
		c, ok := m.replica(j.plan.ServiceID)
		if !ok {
			continue
		}
		newest.learn(volumeOwner{node: m.node, term: c.VolumesTerm})
		for _, v := range c.Volumes {
			newest.learn(volumeOwner{node: v.Node, term: v.Term})
		}
	}
	return newest
}

// findOwner asks the node that owns the service's volumes, too, if it is announced and
// was not among the first that were heard of. It returns [ErrNoOwner] where only
// those answer who owned the volumes before.
func (j *joining) findOwner(ctx context.Context, c *Client) error {
	if len(j.plan.Spec.Volumes) == 0 {
		return nil
	}
	owner := j.newestOwner()
	if owner.node != "" && !slices.ContainsFunc(j.members, func(m *member) bool { return m.node == owner.node }) {
		if err := j.askNode(ctx, c, owner.node); err != nil {
			return err
		}
	}
	return j.checkOwner()
}

// askNode asks a node for what it runs, wherever it is announced.
func (j *joining) askNode(ctx context.Context, c *Client, node string) error {
	f, flock, err := c.membership()
	if err != nil {
		return err
	}
	wanted := func(s discovery.Service) bool {
		return s.Node == node && s.ServiceID == j.plan.ServiceID && askable(s, flock, f.NodeID())
	}
	all, err := c.hear(ctx, joinConfirm, wanted)
	if err != nil {
		return err
	}
	hints := slices.DeleteFunc(all, func(s discovery.Service) bool { return !wanted(s) })
	found, _ := prove(ctx, f, hints[:min(len(hints), mostOthers)])
	j.members = append(j.members, found...)
	j.order()
	return context.Cause(ctx)
}

// checkOwner refuses what a former owner of the volumes has, while nobody is there who
// has more: it is older than what the other replicas had.
func (j *joining) checkOwner() error {
	best, former := uint64(0), ""
	for _, m := range j.members {
		c, ok := m.replica(j.plan.ServiceID)
		if !ok {
			continue
		}
		best = max(best, c.VolumesTerm, copiedTerm(c))
		if isSuperseded(c) {
			former = m.node
		}
	}
	owner := j.newestOwner()
	if former == "" || best >= owner.term {
		return nil
	}
	return fmt.Errorf("%w: node %.12s owns them and does not answer, and what node %.12s has is what they were before: start the former one's replica again, "+
		"or make one that answers the owner (budgie chirp -promote there), and join then", ErrNoOwner, owner.node, former)
}

// isSuperseded reports whether a replica says that it owned its volumes once.
func isSuperseded(c peer.Container) bool {
	return slices.ContainsFunc(c.Volumes, func(v lifecycle.VolumeSync) bool { return v.Phase == lifecycle.SyncSuperseded })
}
