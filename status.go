package budgie

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/budgiehq/budgie/discovery"
	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/peer"
)

// VolumeStatus is a volume of a service as one of its replicas has it.
type VolumeStatus struct {
	// Container is the replica's id, Name its name, and ServiceID the service's.
	Container, Name, ServiceID string
	// Node is the id of its node, and Local is true where that is this one.
	Node  string
	Local bool
	// Target is where the container sees the volume. It is empty for a replica on
	// another node that owns the service's volumes: Term says so.
	Target string
	// Dir is the volume's directory on this machine; empty for others.
	Dir string
	// Term is the term in which the replica owns the volume, 0 where it has a copy:
	// see [lifecycle.Container.VolumesTerm].
	Term uint64
	// Sync is how far the copy is behind; zero where the replica owns the volume.
	Sync lifecycle.VolumeSync
}

// statusFind is how long replicas on other nodes are listened for.
const statusFind = time.Second

// VolumeStatus says how the volumes of services are doing, on all nodes of the
// flock that answer: of the service that ref means, which may be the name of a
// replica or the beginning of an id, or of all that this machine runs where ref is
// empty. What other nodes say is what they stored last, a few seconds ago at most.
// It returns [ErrNotFound] where nothing has the name.
func (c *Client) VolumeStatus(ctx context.Context, ref string) ([]VolumeStatus, error) {
	recs, err := c.List(ctx)
	if err != nil {
		return nil, err
	}
	if ref != "" {
		rec, err := find(recs, ref)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return nil, err
		}
		recs = nil
		if err == nil {
			recs = []lifecycle.Container{rec}
		}
	}
	var list []VolumeStatus
	services := make(map[string]bool)
	for _, rec := range recs {
		if len(rec.Spec.Volumes) > 0 && (ref != "" || !rec.Finished()) {
			services[rec.ServiceID] = true
			list = append(list, statusOf(rec)...)
		}
	}
	if len(services) == 0 && ref == "" {
		return nil, nil
	}
	remote, err := c.remoteStatus(ctx, services, ref)
	if err != nil {
		return nil, err
	}
	list = append(list, remote...)
	if len(list) == 0 && len(recs) == 0 {
		_, err := find(nil, ref)
		return nil, err
	}
	slices.SortStableFunc(list, func(a, b VolumeStatus) int {
		return cmp.Or(cmp.Compare(a.ServiceID, b.ServiceID), cmp.Compare(b.Term, a.Term), strings.Compare(a.Node, b.Node))
	})
	return list, nil
}

// statusOf describes the volumes of one of this machine's containers.
func statusOf(rec lifecycle.Container) []VolumeStatus {
	var list []VolumeStatus
	for _, v := range rec.Spec.Volumes {
		s := VolumeStatus{
			Container: rec.ID, Name: rec.Name, ServiceID: rec.ServiceID, Local: true,
			Target: v.Target, Dir: v.Source, Term: rec.VolumesTerm(),
		}
		for _, sync := range rec.Volumes {
			if sync.Target == v.Target {
				s.Sync = sync
			}
		}
		list = append(list, s)
	}
	return list
}

// refersTo reports whether a name, or the beginning of an id, is a replica's.
func refersTo(told peer.Container, ref string) bool {
	id := strings.ToLower(ref)
	return told.Name == ref || strings.HasPrefix(told.ID, id) || strings.HasPrefix(told.ServiceID, id)
}

// remoteStatus asks the nodes of the flock that run replicas of services, or what
// ref means.
func (c *Client) remoteStatus(ctx context.Context, services map[string]bool, ref string) ([]VolumeStatus, error) {
	f, flock, err := c.membership()
	if err != nil {
		return nil, err
	}
	wanted := func(s discovery.Service) bool {
		return askable(s, flock, f.NodeID()) && (services[s.ServiceID] || ref != "" && mayMean(s, ref))
	}
	all, err := c.hear(ctx, statusFind, wanted)
	if err != nil {
		return nil, err
	}
	members, _ := prove(ctx, f, slices.DeleteFunc(all, func(s discovery.Service) bool { return !wanted(s) }))
	var list []VolumeStatus
	for _, m := range members {
		defer m.close()
		for _, told := range m.containers {
			if !services[told.ServiceID] && !(ref != "" && refersTo(told, ref)) {
				continue
			}
			s := VolumeStatus{Container: told.ID, Name: told.Name, ServiceID: told.ServiceID, Node: m.node, Term: told.VolumesTerm}
			for _, sync := range told.Volumes {
				s.Target, s.Sync = sync.Target, sync
				list = append(list, s)
			}
			if len(told.Volumes) == 0 && told.VolumesTerm > 0 {
				list = append(list, s)
			}
		}
	}
	return list, context.Cause(ctx)
}
