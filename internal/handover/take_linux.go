package handover

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Offered is what another process gives. It has to be closed: what is not served by
// then stays with the other process, which goes on as before. One goroutine uses it.
type Offered struct {
	// Busy: the other process serves well.
	Busy bool
	conn conn
}

// Release has the other process let go of everything but serving, for a successor of
// the given name, and returns copies of its sockets, which are the caller's.
func (o *Offered) Release(to string) ([]Socket, error) {
	err := o.conn.say(message{Do: doRelease, To: to}, nil)
	var all []Socket
	for more := true; more && err == nil; {
		var m message
		var sockets []Socket
		m, sockets, err = o.hear(releaseTimeout + askTimeout)
		all, more = append(all, sockets...), m.More
	}
	if err != nil {
		closeAll(all)
		return nil, err
	}
	return all, nil
}

// Serve says that this process accepts, and returns when the other one does not any
// more. Where the error is ErrNone that one has ended, or has given this one up.
func (o *Offered) Serve() error {
	err := o.conn.say(message{Do: doServe}, nil)
	if err == nil {
		_, _, err = o.hear(askTimeout)
	}
	if broken(err) {
		err = errGone
	}
	return err
}

// errGone: it was there.
var errGone = fmt.Errorf("%w any more: the other process ended, or gave up waiting", ErrNone)

// hear receives an answer.
func (o *Offered) hear(within time.Duration) (message, []Socket, error) {
	m, sockets, err := o.conn.hear(within)
	switch {
	case broken(err):
		err = errGone
	case err == nil && m.Error != "":
		closeAll(sockets)
		return m, nil, fmt.Errorf("%w: %s", ErrRefused, m.Error)
	}
	return m, sockets, err
}

// Close ends the conversation.
func (o *Offered) Close() error { return o.conn.Close() }

// Ask asks the processes that serve in dir, one after the other, for what is wanted. The
// error is ErrNone where nobody has it.
func Ask(ctx context.Context, dir, want string) (*Offered, error) {
	var found *Offered
	err := each(ctx, dir, func(c conn) error {
		o := &Offered{conn: c}
		if err := o.ask(want); err != nil {
			return errors.Join(err, o.Close())
		}
		found = o
		return errFound
	})
	if found != nil {
		return found, nil
	}
	if err == nil {
		err = ErrNone
	}
	return nil, err
}

// Upgrade has all processes that serve in dir, or the one with the given process id
// where that is not 0, start a successor each, and calls told with what came of it. The
// error is ErrNone where there is no such process.
func Upgrade(ctx context.Context, dir string, pid int, told func(pid int, text string, err error)) error {
	some := false
	err := each(ctx, dir, func(c conn) error {
		cred, credErr := c.other()
		if credErr != nil || pid != 0 && int(cred.Pid) != pid {
			return errors.Join(credErr, c.Close())
		}
		some = true
		id := int(cred.Pid)
		if sayErr := c.say(message{Do: doUpgrade}, nil); sayErr != nil {
			told(id, "", sayErr)
			return c.Close()
		}
		m, _, hearErr := c.hear(upgradeTimeout + askTimeout)
		if hearErr == nil && m.Error != "" {
			hearErr = errors.New(m.Error)
		}
		told(id, m.Text, hearErr)
		return c.Close()
	})
	if err == nil && !some {
		return ErrNone
	}
	return err
}

// errFound ends each.
var errFound = errors.New("found")

// each calls f with a conversation with each process that serves in dir, which f or its
// caller closes, until f returns errFound. It goes on after other errors, and returns
// them.
func each(ctx context.Context, dir string, f func(conn) error) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), suffix) {
			continue
		}
		c, err := dial(ctx, dir, e.Name())
		if err == nil {
			if err = f(c); errors.Is(err, errFound) {
				return nil
			}
		}
		if err != nil && !errors.Is(err, ErrNone) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// dial connects to a process, which has to be one of this user. The error is ErrNone for
// one that died.
func dial(ctx context.Context, dir, name string) (conn, error) {
	path, done, err := within(dir, name)
	if err != nil {
		return conn{}, err
	}
	defer done()
	uc, err := (&net.Dialer{Timeout: askTimeout}).DialContext(ctx, "unixpacket", path)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		_ = os.Remove(filepath.Join(dir, name)) // its process died
		return conn{}, ErrNone
	case errors.Is(err, fs.ErrNotExist):
		return conn{}, ErrNone // it has ended meanwhile
	case err != nil:
		return conn{}, err
	}
	c := conn{uc.(*net.UnixConn)}
	if err := c.sameUser(); err != nil {
		return conn{}, errors.Join(err, c.Close())
	}
	return c, nil
}

// ask asks whether there is what is wanted.
func (o *Offered) ask(want string) error {
	if err := o.conn.say(message{Do: doOffer, Want: want}, nil); err != nil {
		return err
	}
	m, sockets, err := o.hear(askTimeout)
	closeAll(sockets) // they come with the release
	if err == nil && m.None {
		err = ErrNone
	}
	o.Busy = m.Busy
	return err
}
