package budgie_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/budgiehq/budgie"
	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/discovery/discoverytest"
	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/runtime/runtimetest"
	"github.com/budgiehq/budgie/trust"
)

// newHost returns a node that runs replicas where they are missing.
func newHost(t *testing.T, network *discoverytest.Network, token trust.Token, policy budgie.HostPolicy) *fakes {
	t.Helper()
	f := newNode(t, network, token)
	hostBy(t, f.Client, policy)
	return f
}

// hostBy makes a client a supervisor and a host, and returns what ends that.
func hostBy(t *testing.T, c *budgie.Client, policy budgie.HostPolicy) (end func()) {
	t.Helper()
	if policy.Patience == 0 {
		policy.Patience = 1500 * time.Millisecond
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := c.Supervise(ctx, budgie.Hosting(policy)); ctx.Err() == nil {
			t.Errorf("the supervision ends: %v", err)
		}
	}()
	end = func() { cancel(); <-done }
	t.Cleanup(end)
	return end
}

// wanting is a service of which there should be so many replicas, and may be.
func wanting(least, most int) bunfile.Spec {
	spec := always(web("web"))
	spec.Replicas = bunfile.Replicas{Min: least, Max: most}
	return spec
}

// awaitReplicas waits until exactly so many of some nodes have a replica that
// serves, and returns those.
func awaitReplicas(t *testing.T, want int, nodes ...*fakes) (with []*fakes, recs []lifecycle.Container) {
	t.Helper()
	for deadline := time.Now().Add(40 * time.Second); ; <-time.After(20 * time.Millisecond) {
		with, recs = nil, nil
		open := false
		for _, n := range nodes {
			for _, rec := range records(t, n) {
				if !rec.Finished() {
					with, recs = append(with, n), append(recs, rec)
					open = open || !rec.Ready || rec.Joining != nil
				}
			}
		}
		if len(recs) == want && !open {
			return with, recs
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d replicas, want %d: %+v", len(recs), want, recs)
		}
	}
}

// never fails where within a time some nodes have another number of replicas.
func never(t *testing.T, d time.Duration, but int, nodes ...*fakes) {
	t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); <-time.After(20 * time.Millisecond) {
		n := 0
		for _, node := range nodes {
			for _, rec := range records(t, node) {
				if !rec.Finished() {
					n++
				}
			}
		}
		if n != but {
			t.Fatalf("there are %d replicas, want %d", n, but)
		}
	}
}

// A node dies, one host of two takes its place, and steps back when it returns. A
// node that is no host runs nothing.
func TestHostRestoresAndStepsBack(t *testing.T) {
	t.Parallel()
	network, token := discoverytest.NewNetwork(), trust.NewToken()
	a, b, bystander := newNode(t, network, token), newNode(t, network, token), newNode(t, network, token)
	supervise(t, bystander.Client)
	first := a.client(t, budgie.WithToken(token))
	endFirst := supervise(t, first)
	if _, err := runDetached(t, first, wanting(2, 2)); err != nil {
		t.Fatal(err)
	}
	settled, err := b.Join(t.Context(), "web")
	if err != nil {
		t.Fatal(err)
	}
	c, d := newHost(t, network, token, budgie.HostPolicy{}), newHost(t, network, token, budgie.HostPolicy{})
	never(t, 4*time.Second, 0, c, d, bystander)

	_ = endFirst() // its container runs on, and nobody reaches it
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	_, recs := awaitReplicas(t, 1, c, d)
	t.Logf("restored after %v", time.Since(began).Round(10*time.Millisecond))
	if !recs[0].Restored || !recs[0].Detached || recs[0].ServiceID != settled.ServiceID {
		t.Errorf("restored as %+v", recs[0])
	}
	answer(t, recs[0])
	never(t, 3*time.Second, 1, c, d)

	supervise(t, a.client(t, budgie.WithToken(token)))
	began = time.Now()
	awaitReplicas(t, 0, c, d)
	t.Logf("stepped back after %v", time.Since(began).Round(10*time.Millisecond))
	answer(t, settled)
	never(t, 4*time.Second, 2, a, b, c, d, bystander)
}

// A service gets its minimum from the start, and a replica that a person stopped is
// not begun again there, but elsewhere. What joins by a person's wish makes restored
// ones step back.
func TestHostsReachTheMinimum(t *testing.T) {
	t.Parallel()
	network, token := discoverytest.NewNetwork(), trust.NewToken()
	a := newNode(t, network, token)
	c, d, e := newHost(t, network, token, budgie.HostPolicy{}), newHost(t, network, token, budgie.HostPolicy{}), newHost(t, network, token, budgie.HostPolicy{})
	if _, err := a.Run(t.Context(), wanting(3, 0)); err != nil {
		t.Fatal(err)
	}
	with, recs := awaitReplicas(t, 2, c, d, e)
	if err := with[0].Stop(t.Context(), recs[0].ID); err != nil {
		t.Fatal(err)
	}
	others := []*fakes{c, d, e}
	for i, n := range others {
		if n == with[0] {
			others = append(others[:i:i], others[i+1:]...)
			break
		}
	}
	awaitReplicas(t, 2, others...)
	never(t, 3*time.Second, 0, with[0])

	if _, err := newNode(t, network, token).Join(t.Context(), "web"); err != nil {
		t.Fatal(err)
	}
	awaitReplicas(t, 1, c, d, e)
	never(t, 3*time.Second, 1, c, d, e)
}

// A command of the machine is run for others only where that was allowed.
func TestHostRunsCommandsWhereAllowed(t *testing.T) {
	t.Parallel()
	network, token := discoverytest.NewNetwork(), trust.NewToken()
	a := newNode(t, network, token)
	images, commands := newHost(t, network, token, budgie.HostPolicy{}), newHost(t, network, token, budgie.HostPolicy{AllowProcess: true})
	spec := wanting(3, 0)
	spec.Image = bunfile.Image{Command: runtimetest.FakeCommand("serve")}
	if _, err := a.Run(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	awaitReplicas(t, 1, commands)
	never(t, 3*time.Second, 0, images)
}

// What one host cannot run, another does.
func TestHostThatCannot(t *testing.T) {
	t.Parallel()
	network, token := discoverytest.NewNetwork(), trust.NewToken()
	a, taken, free := newNode(t, network, token), newNode(t, network, token), newNode(t, network, token)
	const n = 6 // of some of which each is asked first
	for i := range n {
		spec := wanting(2, 0)
		spec.Name = fmt.Sprint("web", i)
		if _, err := a.Run(t.Context(), spec); err != nil {
			t.Fatal(err)
		}
		spec.Replicas.Min = 1
		if _, err := taken.Run(t.Context(), spec); err != nil {
			t.Fatal(err)
		}
	}
	hostBy(t, taken.Client, budgie.HostPolicy{})
	hostBy(t, free.Client, budgie.HostPolicy{})
	_, recs := awaitReplicas(t, n, free)
	for _, rec := range recs {
		if !rec.Restored || !strings.HasPrefix(rec.Name, "web") {
			t.Errorf("it runs %+v", rec)
		}
	}
	if n := len(records(t, taken)); n != len(recs) {
		t.Errorf("the other one has %d containers", n)
	}
}

// A host that could not, for a reason that passes, does soon after it has.
func TestHostTriesAgain(t *testing.T) {
	t.Parallel()
	network, token := discoverytest.NewNetwork(), trust.NewToken()
	a, b := newNode(t, network, token), newNode(t, network, token)
	if _, err := a.Run(t.Context(), wanting(2, 0)); err != nil {
		t.Fatal(err)
	}
	inTheWay, err := b.Run(t.Context(), wanting(1, 0))
	if err != nil {
		t.Fatal(err)
	}
	said := make(saying, 64)
	hostBy(t, b.client(t, budgie.WithToken(token), budgie.WithLogger(slog.New(slog.NewTextHandler(said, nil)))), budgie.HostPolicy{})
	for line := range said {
		if strings.Contains(line, "cannot restore a replica") {
			break
		}
	}
	if err := b.Remove(t.Context(), inTheWay.ID, budgie.Force()); err != nil {
		t.Fatal(err)
	}
	if _, recs := awaitReplicas(t, 1, b); !recs[0].Restored {
		t.Errorf("it runs %+v", recs[0])
	}
}

// Where a replica was restored once, it steps back also when the machine is a host
// no more.
func TestRestoredStepsBackWithoutHosting(t *testing.T) {
	t.Parallel()
	network, token := discoverytest.NewNetwork(), trust.NewToken()
	a, b := newNode(t, network, token), newNode(t, network, token)
	if _, err := a.Run(t.Context(), wanting(2, 2)); err != nil {
		t.Fatal(err)
	}
	end := hostBy(t, b.Client, budgie.HostPolicy{})
	awaitReplicas(t, 1, b)
	end()
	// It is out of sight meanwhile, and there is room for another one.
	if _, err := newNode(t, network, token).Join(t.Context(), "web"); err != nil {
		t.Fatal(err)
	}
	supervise(t, b.Client)
	awaitReplicas(t, 0, b)
}

// A host needs to be found.
func TestHostWithoutDiscovery(t *testing.T) {
	c := newClient(t, budgie.WithoutDiscovery())
	if err := c.Supervise(t.Context(), budgie.Hosting(budgie.HostPolicy{})); err == nil || !strings.Contains(err.Error(), "discovery is switched off") {
		t.Errorf("got %v", err)
	}
}
