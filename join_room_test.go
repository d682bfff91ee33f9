package budgie_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/budgiehq/budgie"
	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/discovery/discoverytest"
	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/peer"
	"github.com/budgiehq/budgie/runtime"
	"github.com/budgiehq/budgie/runtime/runtimetest"
	"github.com/budgiehq/budgie/trust"
)

// slowRuntime starts nothing before it may.
type slowRuntime struct {
	*runtimetest.Fake
	begun, may chan struct{}
}

func newSlowRuntime() *slowRuntime {
	return &slowRuntime{runtimetest.NewFake(), make(chan struct{}), make(chan struct{})}
}

// Name implements budgie.Runtime.
func (*slowRuntime) Name() string { return "slow" }

// Start implements budgie.Runtime.
func (r *slowRuntime) Start(ctx context.Context, id string) (runtime.Status, error) {
	close(r.begun)
	select {
	case <-r.may:
	case <-ctx.Done():
		return runtime.Status{}, ctx.Err()
	}
	return r.Fake.Start(ctx, id)
}

// atMost returns a service of which there may be so many replicas.
func atMost(most int) bunfile.Spec {
	spec := web("web")
	spec.Replicas = bunfile.Replicas{Min: 1, Max: most}
	return spec
}

// The replica that is created first and ready last yields to the one that has
// stayed meanwhile.
func TestJoinReadyLast(t *testing.T) {
	network, token := discoverytest.NewNetwork(), trust.NewToken()
	a, c := newNode(t, network, token), newNode(t, network, token)
	if _, err := a.Run(t.Context(), atMost(2)); err != nil {
		t.Fatal(err)
	}
	slow := newSlowRuntime()
	b := newNode(t, network, token, budgie.WithRuntime(slow))
	joined := make(chan error, 1)
	go func() {
		_, err := b.Join(t.Context(), "web", budgie.OnRuntime("slow"))
		joined <- err
	}()
	select {
	case <-slow.begun:
	case err := <-joined:
		t.Fatal(err)
	}
	if _, err := c.Join(t.Context(), "web"); err != nil {
		t.Error(err)
	}
	close(slow.may)
	if err := <-joined; !errors.Is(err, budgie.ErrReplicas) || !strings.Contains(err.Error(), "replicas.max is 2") {
		t.Errorf("got %v", err)
	}
	if recs := records(t, b); len(recs) != 0 {
		t.Errorf("it leaves %+v", recs)
	}
}

// replicaOf makes a rogue's container another replica of a service.
func replicaOf(service string) func(*peer.Container) {
	return func(c *peer.Container) { c.ServiceID = service }
}

// Another replica joins at the same time, came later by its clock, and may or may
// not have looked already: what becomes of it is waited for.
func TestJoinWaitsForALaterOne(t *testing.T) {
	for name, stays := range map[string]bool{"Stays": true, "Goes": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			network, token := discoverytest.NewNetwork(), trust.NewToken()
			a, b := newNode(t, network, token), newNode(t, network, token)
			first, err := a.Run(t.Context(), atMost(2))
			if err != nil {
				t.Fatal(err)
			}
			_, err = b.Join(t.Context(), "web", budgie.OnJoin(func(budgie.JoinPlan) {
				r := newRogue(t, network, token, replicaOf(first.ID))
				looked := time.Now().Add(2500 * time.Millisecond) // after the first look, before the second
				r.setList(func() []peer.Container {
					other := r.served
					other.CreatedAt = time.Now().Add(time.Hour)
					other.Joining = time.Now().Before(looked)
					if !other.Joining && !stays {
						return nil
					}
					return []peer.Container{other}
				})
			}))
			if stays && !errors.Is(err, budgie.ErrReplicas) || !stays && err != nil {
				t.Errorf("got %v", err)
			}
		})
	}
}

// A replica that the join knew of counts for as long as it is announced, also
// where its node does not answer just now.
func TestJoinCountsTheSilent(t *testing.T) {
	for name, left := range map[string]bool{"Silent": false, "Left": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			network, token := discoverytest.NewNetwork(), trust.NewToken()
			b := newNode(t, network, token)
			r := newRogue(t, network, token, nil)
			text, err := bunfile.Marshal(atMost(2))
			if err != nil {
				t.Fatal(err)
			}
			r.setSpec(func(context.Context) ([]byte, error) { return text, nil })
			_, err = b.Join(t.Context(), "web", budgie.OnJoin(func(budgie.JoinPlan) {
				_ = r.server.Close()
				if left {
					if err := r.node.Withdraw(t.Context(), r.served.ID); err != nil {
						t.Error(err)
					}
				}
				newRogue(t, network, token, func(c *peer.Container) {
					c.ID, c.ServiceID = strings.Repeat("8", 64), r.served.ServiceID
				})
			}))
			if left && err != nil || !left && !errors.Is(err, budgie.ErrReplicas) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// Who joins is killed when the replica has been stored and before anybody found
// room for it: the supervisor finds out. A replica that it finds no room for is
// stopped, says why, and is restarted by no policy.
func TestJoinKilled(t *testing.T) {
	for name, most := range map[string]int{"Room": 3, "None": 2} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			network, token := discoverytest.NewNetwork(), trust.NewToken()
			a, b := newNode(t, network, token), newNode(t, network, token)
			first, err := a.Run(t.Context(), atMost(most))
			if err != nil {
				t.Fatal(err)
			}
			newRogue(t, network, token, replicaOf(first.ID))
			rec := lifecycle.Container{
				ID: strings.Repeat("9", 64), ServiceID: first.ID, Name: "web", Spec: always(first.Spec), Runtime: first.Runtime,
				Owner: "supervisor", Detached: true, AutoRemove: true, Desired: lifecycle.WantRunning, Joining: &lifecycle.Joining{},
			}
			if err := rec.MarkCreating(time.Now().UTC()); err != nil {
				t.Fatal(err)
			}
			if _, err := b.store.Put(t.Context(), rec); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- b.Supervise(ctx, budgie.Resident()) }()
			rec = eventually(t, b.Client, "web", "a decision", func(r lifecycle.Container) bool {
				return r.Joining == nil || r.Finished()
			})
			if most == 3 && (rec.Joining != nil || !rec.Ready) {
				t.Errorf("it does not stay: %+v", rec)
			}
			if most == 2 && (rec.State != lifecycle.Stopped || !strings.Contains(rec.EndReason(), "2 others came first")) {
				t.Errorf("it stays: %+v", rec)
			}
			cancel()
			<-ended
		})
	}
}

// The end of the context, while a detached replica has yet to become ready, or to
// find room, leaves nothing.
func TestJoinDetachedInterrupted(t *testing.T) {
	for _, where := range []string{"Starting", "FindingRoom"} {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			network, token := discoverytest.NewNetwork(), trust.NewToken()
			a := newNode(t, network, token)
			if _, err := a.Run(t.Context(), atMost(2)); err != nil {
				t.Fatal(err)
			}
			slow := newSlowRuntime()
			b := newNode(t, network, token, budgie.WithRuntime(slow))
			supervised, end := context.WithCancel(t.Context())
			defer end()
			ended := make(chan error, 1)
			go func() { ended <- b.Supervise(supervised, budgie.Resident()) }()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			joined := make(chan error, 1)
			go func() {
				_, err := b.Join(ctx, "web", budgie.OnRuntime("slow"), budgie.Detached())
				joined <- err
			}()
			select {
			case <-slow.begun:
			case err := <-joined:
				t.Fatal(err)
			}
			if where == "FindingRoom" {
				close(slow.may)
				eventually(t, b.Client, "web", "ready", running)
			}
			cancel()
			if err := <-joined; !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
			if recs := records(t, b); len(recs) != 0 {
				t.Errorf("it leaves %+v", recs)
			}
			end()
			<-ended
		})
	}
}

// A job that is done before it is clear whether there is room for it, and removes
// itself, has done its work.
func TestJoinAJob(t *testing.T) {
	for _, command := range []string{"exit", "idle"} {
		network, token := discoverytest.NewNetwork(), trust.NewToken()
		b := newNode(t, network, token)
		r := newRogue(t, network, token, nil)
		job := atMost(2)
		job.Ports, job.Healthcheck, job.Image.Command = nil, nil, runtimetest.FakeCommand(command, "0")
		text, err := bunfile.Marshal(job)
		if err != nil {
			t.Fatal(err)
		}
		r.setSpec(func(context.Context) ([]byte, error) { return text, nil })
		joined := make(chan error, 1)
		go func() {
			_, err := b.Join(t.Context(), "web", budgie.AutoRemove())
			joined <- err
		}()
		if command == "idle" {
			rec := eventually(t, b.Client, "web", "ready", running)
			if err := b.runtime.Crash(rec.ID, 0); err != nil {
				t.Fatal(err)
			}
		}
		if err := <-joined; err != nil {
			t.Errorf("%s: %v", command, err)
		}
	}
}
