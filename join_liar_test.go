package budgie_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/budgiehq/budgie"
	"github.com/budgiehq/budgie/discovery/discoverytest"
	"github.com/budgiehq/budgie/peer"
	"github.com/budgiehq/budgie/trust"
)

// many returns so many containers of a rogue, as change makes them.
func (r *rogue) many(n int, change func(c *peer.Container, id string)) {
	r.setList(func() []peer.Container {
		list := make([]peer.Container, n)
		for i := range list {
			list[i] = r.served
			change(&list[i], fmt.Sprintf("%064x", i+1))
		}
		return list
	})
}

// A member that says that it runs thousands of things makes neither an endless
// error nor thousands of questions.
func TestJoinBoundsALiar(t *testing.T) {
	network, token := discoverytest.NewNetwork(), trust.NewToken()
	r, b := newRogue(t, network, token, nil), newNode(t, network, token)
	r.many(1000, func(c *peer.Container, id string) { c.ID, c.ServiceID = id, id })
	_, err := b.PlanJoin(t.Context(), "web")
	if !errors.Is(err, budgie.ErrAmbiguous) || len(err.Error()) > 500 || !strings.Contains(err.Error(), "996 more") {
		t.Errorf("got %v", err)
	}
	var asked atomic.Int64
	r.setSpec(func(context.Context) ([]byte, error) {
		asked.Add(1)
		return nil, errors.New("no")
	})
	r.many(1000, func(c *peer.Container, id string) { c.ID = id })
	if _, err = b.PlanJoin(t.Context(), "web"); err == nil || len(err.Error()) > 500 {
		t.Errorf("got %v", err)
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("it was asked for %d specifications", n)
	}
}

// A member claims the id of the replica that the service began with, which is
// announced by another: that one is asked for the volumes.
func TestSeedFromTheAnnouncedFirst(t *testing.T) {
	network, token := discoverytest.NewNetwork(), trust.NewToken()
	a := newNode(t, network, token)
	runWithVolume(t, a)
	first := records(t, a)[0]
	r := newRogue(t, network, token, func(c *peer.Container) {
		c.ID, c.ServiceID = strings.Repeat("0", 64), first.ID // the first in any order
	})
	r.setList(func() []peer.Container {
		c := r.served
		c.ID = first.ID
		return []peer.Container{c}
	})
	r.setSpec(func(context.Context) ([]byte, error) { return nil, errors.New("no") })
	var log seedLog
	if _, err := newNode(t, network, token).Join(t.Context(), "web", log.option()); err != nil {
		t.Fatal(err)
	}
	if len(log) == 0 || log[0].Step != budgie.SeedStarted || log[0].Node == r.served.Node {
		t.Errorf("the volume comes by %+v", log)
	}
}
