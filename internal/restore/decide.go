// Package restore decides, without a leader, which nodes of a flock restore
// replicas of a service that has lost some, and which of those step back when it
// has enough again; and which of those that people had join do, where nodes that did
// not see each other let in too many.
//
// Every node decides for itself, by what it believes of the others: [Tracker]
// remembers that, and [Decide] judges it. Nodes that believe the same agree on who
// acts, by rendezvous hashing. Nothing here does anything, or knows a clock.
package restore

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"slices"
	"time"
)

// Action is what a node has to do for a service.
type Action int

// The actions.
const (
	// Nothing: others act, or nobody has to.
	Nothing Action = iota
	// Join: run a replica.
	Join
	// StepBack: end the replica, which was restored here, or joined and is too many.
	StepBack
)

// String returns the action's name in lower case.
func (a Action) String() string {
	switch a {
	case Join:
		return "join"
	case StepBack:
		return "step back"
	}
	return "nothing"
}

// View is what a node believes of a service at one moment.
type View struct {
	// Service is the service's id, and Self the node's.
	Service, Self string
	// Min is how many replicas there should be, one where it is less, and Max how
	// many there may be, 0 for any number.
	Min, Max int
	// Hosts are the living nodes that run a replica where one is missing, and are
	// able to.
	Hosts []string
	// Joining are the nodes that are about to have a replica.
	Joining []string
	// Replicas are the replicas that live, or may: one that fell silent a moment
	// ago is among them.
	Replicas []Replica
}

// Replica is a replica as a node believes it to be.
type Replica struct {
	// Node is the node that runs it.
	Node string
	// Restored is true where it was created because others were missing.
	Restored bool
	// Joined is true where a person had it join, as long as there is room, and
	// Created is when, by its node's clock; ID decides where those agree.
	Joined  bool
	Created time.Time
	ID      string
	// Gone is true where its node does not answer, or says no more that it runs it,
	// since so short a time that it counts as there.
	Gone bool
	// Serving is true where it has served for a moment, and Steady where it has for
	// a good while, without having fallen silent.
	Serving, Steady bool
}

// Decide returns what the node has to do. It depends on v alone. Of nodes with the
// same view, no more join than replicas are missing, nor than there may be, and no
// more step back than are too many: first those that were restored, and, above the
// maximum, then those that joined last.
func Decide(v View) Action {
	v.Min = max(v.Min, 1)
	if v.Max > 0 {
		v.Min = min(v.Min, v.Max)
	}
	if slices.ContainsFunc(v.Replicas, func(r Replica) bool { return r.Node == v.Self }) {
		return v.stay()
	}
	return v.join()
}

// join is for a node without a replica.
func (v View) join() Action {
	if len(v.Replicas) == 0 {
		return Nothing // nobody is left who knows the service
	}
	has := slices.Clone(v.Joining)
	for _, r := range v.Replicas {
		has = append(has, r.Node)
	}
	slices.Sort(has)
	has = slices.Compact(has)
	free := slices.DeleteFunc(slices.Clone(v.Hosts), func(n string) bool { return slices.Contains(has, n) })
	missing := v.Min - len(has)
	if place := slices.Index(Rank(v.Service, free), v.Self); place >= 0 && place < missing {
		return Join
	}
	return Nothing
}

// stay is for a node with a replica.
func (v View) stay() Action {
	serving, steady := 0, 0
	var restored []string
	for _, r := range v.Replicas {
		if r.Serving {
			serving++
		}
		if r.Steady {
			steady++
		}
		if r.Restored && !r.Gone {
			restored = append(restored, r.Node)
		}
	}
	surplus := steady - v.Min
	if v.Max > 0 {
		surplus = max(surplus, serving-v.Max)
	}
	order := Rank(v.Service, restored)
	slices.Reverse(order)
	if place := slices.Index(order, v.Self); place >= 0 && place < surplus {
		return StepBack
	}
	if v.Max > 0 && v.isOneOfTheLast(serving-v.Max-len(order)) {
		return StepBack
	}
	return Nothing
}

// isOneOfTheLast reports whether the node's replica is one of the n that joined last:
// who came first stays, as where several join at a time. A node that sees less than all
// can only find that fewer have to go of those that came after it, and as many before.
func (v View) isOneOfTheLast(n int) bool {
	own := slices.IndexFunc(v.Replicas, func(r Replica) bool { return r.Node == v.Self && r.yields() })
	if own < 0 {
		return false
	}
	after := 0
	for _, r := range v.Replicas {
		if r.yields() && compare(r, v.Replicas[own]) > 0 {
			after++
		}
	}
	return after < n
}

// yields reports whether the replica is one of those that go by when they joined.
func (r Replica) yields() bool { return r.Joined && !r.Restored && !r.Gone }

// compare orders replicas by when they joined.
func compare(a, b Replica) int { return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID)) }

// Rank orders nodes by rendezvous hashing: the nodes with the highest hash of
// service and node come first. Each service has an order of its own, which does not
// depend on who else is there (Thaler and Ravishankar, "A Name-Based Mapping Scheme
// for Rendezvous", 1996). Nodes that are there twice are taken once.
func Rank(service string, nodes []string) []string {
	type ranked struct {
		node string
		hash [sha256.Size]byte
	}
	all := make([]ranked, 0, len(nodes))
	for _, n := range nodes {
		all = append(all, ranked{n, sha256.Sum256([]byte(service + "\x00" + n))})
	}
	slices.SortFunc(all, func(a, b ranked) int {
		return cmp.Or(bytes.Compare(b.hash[:], a.hash[:]), cmp.Compare(a.node, b.node))
	})
	order := make([]string, 0, len(all))
	for _, r := range all {
		order = append(order, r.node)
	}
	return slices.Compact(order)
}
