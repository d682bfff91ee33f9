package handover

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// suffix is what the names of unix sockets end with.
const suffix = ".sock"

// How long the other side may take: to say something, to make itself ready, to let go,
// and to start a successor.
const (
	askTimeout     = 5 * time.Second
	readyTimeout   = time.Minute
	releaseTimeout = 30 * time.Second
	upgradeTimeout = 2 * time.Minute
)

// within returns a path for a file of a directory that is short enough for the address
// of a unix socket, which has at most 107 bytes. It is good until done is called.
func within(dir, name string) (path string, done func(), err error) {
	d, err := os.Open(dir)
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", d.Fd(), name), func() { _ = d.Close() }, nil
}

// private makes dir, and an error where others than this user may write there.
func private(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	if st, ok := info.Sys().(*syscall.Stat_t); !info.IsDir() || !ok || int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("%s has to be a directory of the user %d: remove it", dir, os.Geteuid())
	}
	if info.Mode().Perm()&0o077 != 0 {
		return os.Chmod(dir, 0o700)
	}
	return nil
}

// listen makes the unix socket of a process, and what removes it again. Its name ends
// with suffix not before it listens: what is there and refuses connections is dead.
func listen(dir string) (ln *net.UnixListener, remove func(), err error) {
	if err := private(dir); err != nil {
		return nil, nil, err
	}
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	name := hex.EncodeToString(b[:])
	path, done, err := within(dir, name)
	if err != nil {
		return nil, nil, err
	}
	defer done()
	if ln, err = net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"}); err != nil {
		return nil, nil, err
	}
	ln.SetUnlinkOnClose(false)
	file := filepath.Join(dir, name)
	if err = os.Chmod(file, 0o600); err == nil {
		err = os.Rename(file, file+suffix)
	}
	if err != nil {
		return nil, nil, errors.Join(err, ln.Close(), os.Remove(file))
	}
	return ln, func() { _ = os.Remove(file + suffix) }, nil
}

// Serve offers what g has to whoever asks in dir, which it creates, until closeServer is
// called, which waits for what is under way.
func Serve(dir string, g Giver) (closeServer func(), err error) {
	ln, remove, err := listen(dir)
	if err != nil {
		return nil, fmt.Errorf("serve a socket in %s: %w", dir, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.AcceptUnix()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil { // too many open files, most likely
				select {
				case <-time.After(time.Second):
				case <-ctx.Done():
				}
				continue
			}
			wg.Go(func() {
				defer c.Close()
				// What is under way may still have to say how it ended.
				defer context.AfterFunc(ctx, func() { _ = c.CloseRead() })()
				(&giving{conn{c}, g}).serve(ctx)
			})
		}
	})
	return sync.OnceFunc(func() {
		cancel()
		remove()
		_ = ln.Close()
		wg.Wait()
	}), nil
}

// giving is a conversation with one who asks.
type giving struct {
	conn
	giver Giver
}

// fail tells why not. The other side may be gone by then.
func (g *giving) fail(err error) { _ = g.say(message{Error: err.Error()}, nil) }

func (g *giving) serve(ctx context.Context) {
	_ = g.SetWriteDeadline(time.Now().Add(upgradeTimeout + readyTimeout)) // nobody waits so long
	m, sockets, err := g.hear(askTimeout)
	closeAll(sockets) // nobody has to send any
	// Not before the question is read: to close on it would take the answer back.
	if stranger := g.sameUser(); stranger != nil {
		err = stranger
	}
	if err != nil {
		g.fail(err)
		return
	}
	switch m.Do {
	case doUpgrade:
		ctx, cancel := context.WithTimeout(ctx, upgradeTimeout)
		defer cancel()
		text, err := g.giver.Upgrade(ctx)
		if err != nil {
			g.fail(err)
			return
		}
		_ = g.say(message{Text: text}, nil) // it is done in any case
	case doOffer:
		g.offer(ctx, m.Want)
	default:
		g.fail(fmt.Errorf("%w: %q is not known", ErrRefused, m.Do))
	}
}

// offer hands over, if the other side makes it to the end.
func (g *giving) offer(ctx context.Context, want string) {
	o, err := g.giver.Offer(want)
	if errors.Is(err, ErrNone) {
		_ = g.say(message{None: true}, nil) // nothing depends on it
		return
	}
	if err != nil {
		g.fail(err)
		return
	}
	end := o.Abort
	defer func() { end() }()
	if g.say(message{Busy: o.Busy()}, nil) != nil {
		return
	}
	for {
		m, sockets, err := g.hear(readyTimeout)
		closeAll(sockets)
		switch {
		case err != nil:
			return
		case m.Do == doRelease:
			ctx, cancel := context.WithTimeout(ctx, releaseTimeout)
			given, err := o.Release(ctx, m.To)
			cancel()
			if err != nil {
				g.fail(err)
				return
			}
			if g.send(given) != nil {
				return
			}
		case m.Do == doServe:
			o.Done()
			end = func() {}
			_ = g.say(message{}, nil) // the successor serves in any case
			return
		default:
			g.fail(fmt.Errorf("%w: %q is not known", ErrRefused, m.Do))
			return
		}
	}
}

// send sends sockets, as many at a time as a message takes.
func (g *giving) send(sockets []Socket) error {
	for {
		n := min(len(sockets), maxSockets)
		if err := g.say(message{More: n < len(sockets)}, sockets[:n]); err != nil {
			g.fail(err)
			return err
		}
		if sockets = sockets[n:]; len(sockets) == 0 {
			return nil
		}
	}
}
