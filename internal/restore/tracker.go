package restore

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// Told is what a node says of itself.
type Told struct {
	// Host is what it would run for others; nil where that is nothing.
	Host *Host
	// Replicas are the replicas that it runs.
	Replicas []Instance
}

// Host is a node that runs replicas where some are missing.
type Host struct {
	// Commands is true where it runs commands of the machine too, not only images.
	Commands bool
	// Joining are the services of which it is about to have a replica, and Unable
	// those of which it cannot have one.
	Joining, Unable []string
}

// Instance is a replica as its node tells of it.
type Instance struct {
	// ID is the replica's, and Service the service's.
	ID, Service string
	// Command is true where it is a command of the machine and not an image.
	Command bool
	// Restored is true where it was created because others were missing, Joined
	// where a person had it join and it is past looking for room, Serving where it
	// serves now and is past that.
	Restored, Joined, Serving bool
	// Created is when it was created, by its node's clock.
	Created time.Time
	// Min and Max are how many replicas its specification wants and allows.
	Min, Max int
}

// Tracker remembers what nodes say, and for how long they have been saying it. Make
// one with [NewTracker]. Its methods must not be called concurrently, and the times
// that they are given must not go back.
type Tracker struct {
	self     string
	patience time.Duration
	began    time.Time
	nodes    map[string]*node
	// came is when a replica of a service came last, and hostCame when a host did:
	// who has just been found may not be the last one.
	came     map[string]time.Time
	hostCame time.Time
}

type node struct {
	host     *Host
	here     bool
	lost     time.Time
	replicas map[string]*instance
}

type instance struct {
	Instance
	// here is true while its node says that it runs it, and lost when that ended.
	here bool
	lost time.Time
	// since is when it began to serve, zero while it does not, or is not here.
	since time.Time
}

// DefaultPatience is how long a replica whose node does not answer counts as there
// still, and how long a node that has found somebody waits for others.
const DefaultPatience = 12 * time.Second

// mostOver bounds for how long replicas that are beyond the maximum stay:
// less than nodes take to notice that one is silent.
const mostOver = 3 * time.Second

// NewTracker returns a Tracker for a node. patience is how long a replica whose node
// does not answer counts as there still, [DefaultPatience] where 0 or less.
func NewTracker(self string, patience time.Duration, now time.Time) *Tracker {
	if patience <= 0 {
		patience = DefaultPatience
	}
	return &Tracker{self: self, patience: patience, began: now, nodes: make(map[string]*node), came: make(map[string]time.Time)}
}

// Tell takes what a node says of itself, which takes the place of what it said
// before. The node may be the tracker's own.
func (t *Tracker) Tell(now time.Time, name string, told Told) {
	t.expire(now)
	n := t.nodes[name]
	if n == nil {
		n = &node{replicas: make(map[string]*instance)}
		t.nodes[name] = n
	}
	n.here = true
	if told.Host != nil && n.host == nil {
		t.hostCame = now
	}
	n.host = told.Host
	left := maps.Clone(n.replicas)
	for _, i := range told.Replicas {
		delete(left, i.ID)
		r := n.replicas[i.ID]
		if r == nil {
			r = new(instance)
			n.replicas[i.ID] = r
			t.came[i.Service] = now
		}
		r.Instance, r.here = i, true
		switch {
		case !i.Serving:
			r.since = time.Time{}
		case r.since.IsZero():
			r.since = now
		}
	}
	for _, r := range left {
		r.leave(now)
	}
}

// Lose notes that a node does not answer any more.
func (t *Tracker) Lose(now time.Time, name string) {
	t.expire(now)
	n := t.nodes[name]
	if n == nil || !n.here {
		return
	}
	n.here, n.lost = false, now
	for _, r := range n.replicas {
		r.leave(now)
	}
}

func (r *instance) leave(now time.Time) {
	if r.here {
		r.here, r.lost, r.since = false, now, time.Time{}
	}
}

// expire forgets who has been gone for too long.
func (t *Tracker) expire(now time.Time) {
	for name, n := range t.nodes {
		maps.DeleteFunc(n.replicas, func(_ string, r *instance) bool { return !r.here && now.Sub(r.lost) >= t.patience })
		if !n.here && now.Sub(n.lost) >= t.patience {
			delete(t.nodes, name)
		}
	}
	maps.DeleteFunc(t.came, func(_ string, at time.Time) bool { return now.Sub(at) >= t.patience })
}

// Decision is what the tracker's own node has to do.
type Decision struct {
	Service string
	Action  Action
	// Replica is the id of the node's own one that steps back; empty for Join.
	Replica string
	// Serving is how many replicas serve, and Max how many there may be, 0 for any
	// number.
	Serving, Max int
}

// Decide returns what the tracker's own node has to do now, in the order of the
// services' ids.
func (t *Tracker) Decide(now time.Time) []Decision {
	t.expire(now)
	var decisions []Decision
	for _, service := range t.services() {
		v := t.view(now, service)
		d := Decision{Service: service, Action: Decide(v), Max: v.Max}
		for _, r := range v.Replicas {
			if r.Serving {
				d.Serving++
			}
		}
		switch d.Action {
		case Nothing:
			continue
		case Join:
			if !t.quiet(now, service) {
				continue
			}
		case StepBack:
			if d.Replica = t.own(service); d.Replica == "" {
				continue
			}
		}
		decisions = append(decisions, d)
	}
	return decisions
}

// quiet reports whether it is long enough ago that somebody was found who matters
// to a service.
func (t *Tracker) quiet(now time.Time, service string) bool {
	_, fresh := t.came[service]
	return !fresh && now.Sub(t.hostCame) >= t.patience && now.Sub(t.began) >= t.patience
}

// services returns the ids of the services of which there are replicas.
func (t *Tracker) services() []string {
	all := make(map[string]bool)
	for _, n := range t.nodes {
		for _, r := range n.replicas {
			all[r.Service] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// Missed returns the services of which the own node has no replica, in the order of
// their ids: those that it may be asked to run.
func (t *Tracker) Missed(now time.Time) []string {
	t.expire(now)
	return slices.DeleteFunc(t.services(), func(s string) bool { return t.own(s) != "" })
}

// own returns the id of the own node's replica of a service, empty where it has
// none.
func (t *Tracker) own(service string) string {
	if n := t.nodes[t.self]; n != nil {
		for id, r := range n.replicas {
			if r.here && r.Service == service {
				return id
			}
		}
	}
	return ""
}

// view returns what is believed of a service.
func (t *Tracker) view(now time.Time, service string) View {
	v := View{Service: service, Self: t.self}
	var says *instance // the replica whose specification counts
	for name, n := range t.nodes {
		if n.host != nil && slices.Contains(n.host.Joining, service) {
			v.Joining = append(v.Joining, name)
		}
		for _, r := range n.replicas {
			if r.Service != service || name == t.self && !r.here {
				continue // of its own it knows
			}
			v.Replicas = append(v.Replicas, Replica{
				Node: name, Restored: r.Restored, Gone: !r.here, Joined: r.Joined, Created: r.Created, ID: r.ID,
				Serving: !r.since.IsZero() && now.Sub(r.since) >= min(mostOver, t.patience),
				Steady:  !r.since.IsZero() && now.Sub(r.since) >= t.patience*5/2,
			})
			if says == nil || precedes(r, says) {
				says = r
			}
		}
	}
	if says == nil {
		return v
	}
	v.Min, v.Max = says.Min, says.Max
	for name, n := range t.nodes {
		if h := n.host; h != nil && (h.Commands || !says.Command) && !slices.Contains(h.Unable, service) {
			v.Hosts = append(v.Hosts, name)
		}
	}
	return v
}

// precedes reports whether a's word on the specification counts more than b's:
// that of the replica with which the service began does, else that of the lowest id.
func precedes(a, b *instance) bool {
	first := func(i *instance) int {
		if i.ID == i.Service {
			return 0
		}
		return 1
	}
	return cmp.Or(first(a)-first(b), cmp.Compare(a.ID, b.ID)) < 0
}
