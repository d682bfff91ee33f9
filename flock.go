package budgie

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/budgiehq/budgie/trust"
)

// Token returns the token that makes this machine a member of its flock. The
// first use of a data directory makes one, of a new flock; processes that do so
// at the same time agree. The token is a secret: [trust.Token.Reveal] shows it.
//
// A client with a store of its own has no data directory to keep a token in:
// unless [WithToken] or BUDGIE_TOKEN gives it one, it is in a new flock every
// time.
func (c *Client) Token(ctx context.Context) (trust.Token, error) {
	return useFlock(ctx, c, (*trust.Flock).Token)
}

// SetToken makes this machine a member of a token's flock. The token before is
// refused from then on by all programs that use the data directory, and what
// was connected by it ends. It returns [ErrTokenFixed] where the client was
// given its token.
func (c *Client) SetToken(ctx context.Context, t trust.Token) error {
	_, err := useFlock(ctx, c, func(f *trust.Flock) (struct{}, error) { return struct{}{}, f.Set(t) })
	return err
}

// RotateToken makes this machine the first member of a new flock and returns
// its token, as SetToken would. Machines that are to stay together need it too.
func (c *Client) RotateToken(ctx context.Context) (trust.Token, error) {
	return useFlock(ctx, c, (*trust.Flock).Rotate)
}

func useFlock[T any](ctx context.Context, c *Client, use func(*trust.Flock) (T, error)) (T, error) {
	var zero T
	if err := errors.Join(c.open(), ctx.Err()); err != nil {
		return zero, err
	}
	f, err := c.openFlock()
	if err != nil {
		return zero, err
	}
	return use(f)
}

// openFlock returns the client's membership, which it opens at the first need:
// a client that only lists containers makes no keys. What could not be opened
// is tried again the next time.
func (c *Client) openFlock() (*trust.Flock, error) {
	c.flockMu.Lock()
	defer c.flockMu.Unlock()
	if c.flock != nil {
		return c.flock, nil
	}
	opts := []trust.Option{trust.WithLogger(c.log), trust.WithPeerFunc(c.newSkewWatch())}
	if c.cfg.tokenOrigin != "" {
		opts = append(opts, trust.WithToken(c.cfg.token, c.cfg.tokenOrigin))
	}
	var f *trust.Flock
	var err error
	if c.cfg.store != nil {
		f, err = trust.New(opts...)
	} else {
		f, err = trust.Open(c.cfg.dataDir, opts...)
	}
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, errors.Join(ErrClosed, f.Close())
	}
	c.closers = append(c.closers, f.Close)
	c.flock = f
	return f, nil
}

// mostSkewed bounds for how many nodes a report is remembered.
const mostSkewed = 1024

// newSkewWatch returns a function that reports nodes whose clocks are off, each
// once: they are put up with, but not for ever.
func (c *Client) newSkewWatch() func(trust.Peer) {
	var mu sync.Mutex
	told := make(map[string]bool)
	return func(p trust.Peer) {
		mu.Lock()
		defer mu.Unlock()
		if p.Skew == 0 || told[p.Node] || len(told) >= mostSkewed {
			return
		}
		told[p.Node] = true
		c.log.Warn("the clocks of this machine and of another node differ: set the one that is wrong, before nodes refuse each other",
			"node", p.Node[:min(12, len(p.Node))], "ahead", p.Skew.Round(time.Second), "tolerated", trust.MaxSkew)
	}
}

// whoami returns what announcements say of this node: its id, and its flock's,
// which is empty while the token cannot be used. From the first call on,
// announcements follow changes of the token.
func (c *Client) whoami() (node, flock string, err error) {
	f, err := c.openFlock()
	if err != nil {
		return "", "", err
	}
	g, err := f.Current()
	if err == nil {
		flock = g.FlockID()
	} else {
		c.log.Warn("announcements do not say which flock this machine is in", "error", err)
	}
	c.following.Do(func() { c.spawn(func() { c.followFlock(f, flock) }) })
	return f.NodeID(), flock, nil
}

// tokenRetry is how long a token that cannot be used is left alone.
const tokenRetry = 10 * time.Second

// followFlock makes the announcements say in which flock this machine is,
// whenever that is another one than they said last, until the client ends.
func (c *Client) followFlock(f *trust.Flock, said string) {
	for {
		g, err := f.Current()
		if err == nil && g.FlockID() != said {
			said = g.FlockID()
			c.flockChanges.Add(1)
			c.mu.Lock()
			for _, k := range c.keepers {
				k.poke()
			}
			c.mu.Unlock()
		}
		var ended <-chan struct{}
		var again <-chan time.Time
		if err == nil {
			ended = g.Ended()
		} else {
			again = time.After(tokenRetry)
		}
		select {
		case <-c.life.Done():
			return
		case <-ended:
		case <-again:
		}
	}
}

// The environment variable of a token, in place of the one in the data
// directory.
const tokenVariable = "BUDGIE_TOKEN"

// tokenOfEnvironment fills in the token that the environment names.
func (c *config) tokenOfEnvironment() {
	text := os.Getenv(tokenVariable)
	if text == "" {
		return
	}
	c.tokenOrigin = tokenVariable
	if c.token, c.tokenErr = trust.ParseToken(text); c.tokenErr != nil {
		c.tokenErr = fmt.Errorf("%s: %w; unset it to use the token in the data directory", tokenVariable, c.tokenErr)
	}
}

// checkToken returns an error if the client was given something that is no
// token.
func (c *config) checkToken() error {
	if c.tokenErr == nil && c.tokenOrigin != "" && c.token.IsZero() {
		return fmt.Errorf("%s: the zero Token is none: leave the option out to use the one in the data directory", c.tokenOrigin)
	}
	return c.tokenErr
}
