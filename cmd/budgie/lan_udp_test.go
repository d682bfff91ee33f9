//go:build linux

package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/budgiehq/budgie/internal/lan"
)

// resolvers are three machines with a replica that has a UDP port, and a fourth one that
// serves that port by a balancer, with clients that ask there and at the published port
// of the first machine.
type resolvers struct {
	*testing.T
	nodes []*machine
	door  *machine
	// asking are the clients, told what to do by tell. Of what they print so much was
	// read.
	asking *lan.Cmd
	tell   *os.File
	read   int
	// begun is how many clients there are, and by who answers each.
	begun int
	by    map[string]answerer
}

// answerer is a machine that answers a client, and since when.
type answerer struct {
	machine string
	since   time.Time
}

// askers is how many clients of a kind begin together.
const askers = 12

// undisturbed is less than how long a client is without an answer of whose replica the
// machine did not fail, while others have things to do.
const undisturbed = 2 * time.Second

// A machine loses its power. Those clients of UDP ports that it had are answered by
// another one when it is found to be silent, whether they came by a published port or
// by a balancer. Who comes only then does not wait for that, and the others notice nothing.
func TestUDPClientsOfDeadMachine(t *testing.T) {
	r := newResolvers(t)
	r.more("port", askers, r.nodes[0].NIC(0).Addr().String())
	r.more("balancer", askers, "127.0.0.1")
	r.await("all are answered", r.allAnswered)
	before, victim := maps.Clone(r.by), r.nodes[2]
	had := r.count(func(by answerer) bool { return by.machine == victim.Name })
	if had["port"] == 0 || had["balancer"] == 0 {
		t.Fatalf("of the clients the machine has %v", had)
	}

	began := time.Now()
	victim.PowerOff()
	r.more("late-port", askers, r.nodes[0].NIC(0).Addr().String())
	r.more("late-balancer", askers, "127.0.0.1")
	r.await("all are answered by other machines", func() bool {
		return r.allAnswered() && len(r.count(func(by answerer) bool { return by.machine == victim.Name })) == 0
	})
	slowest := make(map[string]time.Duration)
	for client, by := range r.by {
		took := by.since.Sub(began)
		slowest[kind(client)] = max(slowest[kind(client)], took)
		most := longest
		if _, early := before[client]; !early {
			most = rotation
		}
		if took > most {
			t.Errorf("client %s was answered by another machine after %v, not within %v", client, took, most)
		}
	}
	t.Logf("the machine had the clients %v; the last one of each kind was answered by another after %v", had, slowest)
	for client, gap := range r.finish() {
		was, early := before[client]
		switch {
		case !early || was.machine == victim.Name:
		case r.by[client] != was:
			t.Errorf("client %s of %s was sent to %s", client, was.machine, r.by[client].machine)
		case gap > undisturbed:
			t.Errorf("client %s of %s was without an answer for %v", client, was.machine, gap)
		}
	}
}

// kind is what a client was named.
func kind(client string) string {
	name, _, _ := strings.Cut(client, "/")
	return name
}

func newResolvers(t *testing.T) *resolvers {
	lab := lan.New(t)
	sw := lab.Switch()
	r := &resolvers{T: t, by: make(map[string]answerer)}
	for i := range 3 {
		r.nodes = append(r.nodes, &machine{T: t, Host: lab.Host(fmt.Sprintf("node%d", i+1), sw)})
	}
	r.door = &machine{T: t, Host: lab.Host("door", sw)}
	first := r.nodes[0]
	first.budgie("run", "-d", first.Write("dns.bun", fmt.Sprintf(`version: "1.0"
image: {command: [%q, -udp, "53", -where]}
ports: [{container_port: 80}, {container_port: 53, host_port: 5300, protocol: udp}]
healthcheck: {path: /, interval: 500ms}
`, filepath.Join(binDir, "testserver"))))
	token := first.budgie("token")
	for _, m := range r.nodes[1:] {
		m.joins(token)
		m.budgie("chirp", "-d", "-allow-process", "dns")
	}
	r.door.joins(token)
	in, tell, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tell.Close() })
	r.tell, r.asking = tell, r.door.Role("ask")
	r.asking.Stdin = in
	if err := errors.Join(r.asking.Start(), in.Close()); err != nil {
		t.Fatal(err)
	}
	balancer := r.door.command("chirp", "-balance", ":5300", "-mode", "udp", "dns")
	if err := balancer.Start(); err != nil {
		t.Fatal(err)
	}
	balancer.Await("/udp, until interrupted")
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the balancer: %s\nthe clients: %s", balancer.Printed(), r.asking.Printed())
		}
	})
	r.awaitReplicas("port", first.NIC(0).Addr().String())
	r.awaitReplicas("balancer", "127.0.0.1")
	return r
}

// awaitReplicas begins one client after the other until each machine has one.
func (r *resolvers) awaitReplicas(kind, host string) {
	seen := make(map[string]bool)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for began := time.Now(); len(seen) < len(r.nodes); <-tick.C {
		if time.Since(began) > 20*time.Second {
			r.Fatalf("the machines that answer at the %s are %v", kind, seen)
		}
		known := maps.Clone(r.by)
		r.more(kind, 1, host)
		r.await("an answer", r.allAnswered)
		for client, by := range r.by {
			if _, old := known[client]; !old {
				seen[by.machine] = true
			}
		}
	}
}

// more begins clients of a kind.
func (r *resolvers) more(kind string, n int, host string) {
	if _, err := fmt.Fprintf(r.tell, "more %s %d %s:5300\n", kind, n, host); err != nil {
		r.Fatal(err, r.asking.Printed())
	}
	r.begun += n
}

// allAnswered reports whether all clients have been answered.
func (r *resolvers) allAnswered() bool { return len(r.by) == r.begun }

// count returns how many clients there are of each kind that are answered so.
func (r *resolvers) count(is func(answerer) bool) map[string]int {
	n := make(map[string]int)
	for client, by := range r.by {
		if is(by) {
			n[kind(client)]++
		}
	}
	return n
}

// await reads what the clients say until something is so.
func (r *resolvers) await(what string, is func() bool) {
	r.Helper()
	for !is() {
		var line string
		line, r.read = r.asking.AwaitLine(what, r.read, func(line string) bool { return strings.HasPrefix(line, "answered ") })
		var client, by string
		var when int64
		if _, err := fmt.Sscanf(line, "answered %s %s %d", &client, &by, &when); err != nil {
			r.Fatal(err)
		}
		r.by[client] = answerer{by, time.Unix(0, when)}
	}
}

// finish ends the clients, and returns how long each was without an answer at most.
func (r *resolvers) finish() map[string]time.Duration {
	if _, err := r.tell.WriteString("end\n"); err != nil {
		r.Fatal(err, r.asking.Printed())
	}
	if err := r.asking.Wait(); err != nil {
		r.Fatal(err)
	}
	gaps := make(map[string]time.Duration)
	for line := range strings.Lines(r.asking.Printed()) {
		words := strings.Fields(line)
		if !slices.Contains(words[:1], "longest") {
			continue
		}
		gap, err := time.ParseDuration(words[2])
		if err != nil {
			r.Fatal(err)
		}
		gaps[words[1]] = gap
	}
	return gaps
}
