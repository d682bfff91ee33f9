package restore_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/budgiehq/budgie/internal/restore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func names(n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("node-%d", i)
	}
	return list
}

// world draws what all of some nodes believe: which of them are hosts, which have
// a replica, and of what kind.
func world(t *rapid.T) (v restore.View, nodes []string) {
	nodes = names(rapid.IntRange(1, 12).Draw(t, "nodes"))
	v.Service = rapid.StringMatching(`[a-z]{1,8}`).Draw(t, "service")
	v.Min = rapid.IntRange(0, 8).Draw(t, "min")
	if rapid.Bool().Draw(t, "bounded") {
		v.Max = rapid.IntRange(max(v.Min, 1), 12).Draw(t, "max")
	}
	for _, n := range nodes {
		if rapid.Bool().Draw(t, n+" is a host") {
			v.Hosts = append(v.Hosts, n)
		}
		switch rapid.IntRange(0, 5).Draw(t, n+" has") {
		case 0:
			v.Replicas = append(v.Replicas, restore.Replica{Node: n, Serving: true, Steady: true})
		case 1:
			v.Replicas = append(v.Replicas, restore.Replica{Node: n, Serving: true, Steady: true, Restored: true})
		case 2:
			v.Replicas = append(v.Replicas, restore.Replica{Node: n, Gone: true, Restored: rapid.Bool().Draw(t, n+" was restored")})
		case 3:
			serving := rapid.Bool().Draw(t, n+" serves")
			v.Replicas = append(v.Replicas, restore.Replica{Node: n, Serving: serving, Restored: rapid.Bool().Draw(t, n+" was restored")})
		case 4:
			v.Joining = append(v.Joining, n)
		}
		if i := len(v.Replicas) - 1; i >= 0 && v.Replicas[i].Node == n && rapid.Bool().Draw(t, n+" joined") {
			r := &v.Replicas[i]
			r.Joined, r.ID = true, n
			r.Created = time.Unix(int64(rapid.IntRange(0, 3).Draw(t, n+" joined at")), 0)
		}
	}
	return v, nodes
}

// decide asks every node.
func decide(v restore.View, nodes []string) (join, back []string) {
	for _, v.Self = range nodes {
		switch restore.Decide(v) {
		case restore.Join:
			join = append(join, v.Self)
		case restore.StepBack:
			back = append(back, v.Self)
		}
	}
	return join, back
}

// Of nodes that believe the same, exactly as many join as are missing, as far as
// there are any who can, and as many step back as are too many, as far as they were
// restored. Nothing is left to do then.
func TestDecideSettles(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v, nodes := world(t)
		join, back := decide(v, nodes)
		have := slices.Clone(v.Joining)
		steady, serving, restored, joined := 0, 0, 0, 0
		for _, r := range v.Replicas {
			have = append(have, r.Node)
			steady += count(r.Steady)
			serving += count(r.Serving)
			restored += count(r.Restored && !r.Gone)
			joined += count(r.Joined && !r.Restored && !r.Gone)
		}
		free := slices.DeleteFunc(slices.Clone(v.Hosts), func(n string) bool { return slices.Contains(have, n) })
		want := min(len(free), max(0, max(v.Min, 1)-len(have)))
		if len(v.Replicas) == 0 {
			want = 0
		}
		if len(join) != want {
			t.Errorf("%v join, want %d of %v", join, want, free)
		}
		surplus, over := steady-max(v.Min, 1), 0
		if v.Max > 0 {
			surplus = max(surplus, serving-v.Max)
			over = serving - v.Max - restored
		}
		if want := min(restored, max(0, surplus)) + min(joined, max(0, over)); len(back) != want {
			t.Errorf("%v step back, want %d", back, want)
		}
		if len(join) > 0 && len(back) > 0 {
			t.Errorf("%v join while %v step back", join, back)
		}
		if len(v.Replicas) == 0 {
			return // who joins has failed, then
		}
		// They do so, and some time passes.
		v.Replicas = slices.DeleteFunc(v.Replicas, func(r restore.Replica) bool { return slices.Contains(back, r.Node) })
		for _, n := range slices.Concat(join, v.Joining) {
			v.Replicas = append(v.Replicas, restore.Replica{Node: n, Restored: true})
		}
		v.Joining = nil
		for i := range v.Replicas {
			v.Replicas[i].Gone, v.Replicas[i].Serving, v.Replicas[i].Steady = false, true, true
		}
		_, back = decide(v, nodes)
		v.Replicas = slices.DeleteFunc(v.Replicas, func(r restore.Replica) bool { return slices.Contains(back, r.Node) })
		if join, back := decide(v, nodes); len(join)+len(back) > 0 {
			t.Errorf("with %+v %v still join, and %v step back", v.Replicas, join, back)
		}
		for _, r := range v.Replicas {
			if v.Max > 0 && len(v.Replicas) > v.Max && (r.Restored || r.Joined) {
				t.Errorf("%s stays, with %d replicas of at most %d", r.Node, len(v.Replicas), v.Max)
			}
		}
	})
}

// Whatever part of the others each node sees, none steps back that is not among those
// that are too many, and the replicas that stay are those that came first.
func TestDecideByParts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := restore.View{Service: "web", Min: 1, Max: rapid.IntRange(1, 5).Draw(t, "max")}
		nodes := names(rapid.IntRange(1, 9).Draw(t, "nodes"))
		for i, n := range nodes {
			v.Replicas = append(v.Replicas, restore.Replica{Node: n, ID: n, Serving: true, Joined: i > 0, Created: time.Unix(int64(i/2), 0)})
		}
		for i, n := range nodes {
			part := v
			part.Self = n
			part.Replicas = slices.DeleteFunc(slices.Clone(v.Replicas), func(r restore.Replica) bool {
				return r.Node != n && rapid.Bool().Draw(t, n+" does not see "+r.Node)
			})
			if restore.Decide(part) == restore.StepBack && i < v.Max {
				t.Errorf("%s steps back, and is one of the first %d: it sees %+v", n, v.Max, part.Replicas)
			}
			part.Replicas = v.Replicas
			if back := restore.Decide(part) == restore.StepBack; back != (i >= v.Max) {
				t.Errorf("%s, which sees all, steps back: %v", n, back)
			}
		}
	})
}

func count(b bool) int {
	if b {
		return 1
	}
	return 0
}

// The order of nodes does not depend on the others, nor on how they are listed, and
// services differ.
func TestRank(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		nodes := rapid.Permutation(names(12)).Draw(t, "nodes")
		order := restore.Rank("web", nodes)
		gone := rapid.SampledFrom(nodes).Draw(t, "gone")
		rest := slices.DeleteFunc(slices.Concat(nodes, nodes[:3]), func(n string) bool { return n == gone })
		want := slices.DeleteFunc(slices.Clone(order), func(n string) bool { return n == gone })
		if got := restore.Rank("web", rest); !slices.Equal(got, want) {
			t.Errorf("without %s %v, want %v", gone, got, want)
		}
	})
	first := make(map[string]int)
	for i := range 4000 {
		first[restore.Rank(fmt.Sprint("service-", i), names(4))[0]]++
	}
	for _, n := range names(4) {
		if first[n] < 850 || first[n] > 1150 {
			t.Errorf("%s comes first for %d of 4000 services, want about 1000", n, first[n])
		}
	}
}

// A maximum below the minimum, as only a liar says, counts.
func TestDecideBoundsTheMinimum(t *testing.T) {
	v := restore.View{Service: "web", Min: 9, Max: 2, Hosts: names(5), Replicas: []restore.Replica{{Node: "other"}}}
	if join, _ := decide(v, names(5)); len(join) != 1 {
		t.Errorf("%v join, want one", join)
	}
}
