package budgie

import (
	"context"
	"errors"
	"time"

	"github.com/budgiehq/budgie/discovery"
	"github.com/budgiehq/budgie/peer"
	"github.com/budgiehq/budgie/trust"
)

// livenessDelay is how long a node is known before it is connected to: a list of
// what is announced, or a join, is done before that.
const livenessDelay = 3 * time.Second

// Discover tells what is announced on the network: first all that is there,
// then every change, until ctx or the client ends. What it tells are unproved claims.
// [discovery.Collect] turns the events of a limited time into a list.
//
// A node of this machine's flock that is known for a few seconds is connected
// to, and when it then falls silent for 6 s, or cannot be reached, its
// replicas are removed, whatever was announced of them; they are added again when
// it answers.
func (c *Client) Discover(ctx context.Context) (<-chan discovery.Event, error) {
	ctx, cancel := c.whileOpen(ctx)
	events, err := c.browse(ctx)
	if err != nil {
		cancel()
		return nil, err
	}
	hub := discovery.NewHub()
	out, err := hub.Subscribe(ctx)
	if err != nil {
		cancel()
		return nil, err
	}
	follow := func() {
		defer cancel()
		defer hub.Close()
		var r *roster
		r = c.newRoster(livenessDelay, func(id string) {
			if s, present := r.seen(id); present {
				hub.Set(s)
			} else {
				hub.Delete(id)
			}
		})
		r.run(ctx, only(ctx, events, isReplica))
	}
	if !c.spawn(follow) {
		cancel()
		hub.Close()
		return nil, ErrClosed
	}
	return out, nil
}

// whileOpen returns a context that ends with ctx or with the client.
func (c *Client) whileOpen(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	forget := context.AfterFunc(c.life, cancel)
	context.AfterFunc(ctx, func() { forget() })
	return ctx, cancel
}

// browse returns the events of the discoverer.
func (c *Client) browse(ctx context.Context) (<-chan discovery.Event, error) {
	if err := c.open(); err != nil {
		return nil, err
	}
	d, err := c.disc()
	if err != nil {
		return nil, err
	}
	if d == nil {
		return nil, errors.New("discovery is switched off in this client")
	}
	return d.Browse(ctx)
}

func (c *Client) newRoster(delay time.Duration, changed func(id string)) *roster {
	dial := func(f *trust.Flock, s discovery.Service) rosterClient { return peer.NewClient(f, s.Node, peerAddrs(s)) }
	return newRoster(c.openFlock, dial, delay, changed)
}

// only passes on the events of services that are wanted, until events ends or ctx
// does.
func only(ctx context.Context, events <-chan discovery.Event, wanted func(discovery.Service) bool) <-chan discovery.Event {
	out := make(chan discovery.Event)
	go func() {
		defer close(out)
		for e := range events {
			if e.Type != discovery.Removed && !wanted(e.Service) {
				continue
			}
			select {
			case out <- e:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}
