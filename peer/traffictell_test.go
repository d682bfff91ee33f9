package peer_test

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/budgiehq/budgie/peer"
	"github.com/budgiehq/budgie/peer/peertest"
	"github.com/budgiehq/budgie/trust"
)

// telling is a node that tells of its traffic.
type telling struct {
	*peertest.Node
	traffic []peer.Traffic
}

func (n telling) Traffic(context.Context) ([]peer.Traffic, error) { return n.traffic, nil }

// A member learns what its node tells, but for what breaks the rules.
func TestTraffic(t *testing.T) {
	good := peer.Traffic{ID: strings.Repeat("0a", 32), Requests: 7, Rate: .7, P99: time.Second, Active: 2, Connections: 3}
	tok := trust.NewToken()
	flock, other := member(t, tok), member(t, tok)
	_, addr := start(t, flock, telling{&peertest.Node{}, []peer.Traffic{good, {ID: "bad"}}})
	r := &rig{flock: flock, other: other, addr: addr}
	got, err := r.client(t).Traffic(soon(t))
	if err != nil || !reflect.DeepEqual(got, []peer.Traffic{good}) {
		t.Errorf("got %+v, %v", got, err)
	}
}

// A node that does not tell says so.
func TestNoTraffic(t *testing.T) {
	r := newRig(t)
	if _, err := r.client(t).Traffic(soon(t)); !errors.Is(err, peer.ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
}
