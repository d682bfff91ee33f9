package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/budgiehq/budgie/internal/rawconn"
)

// PortDialer is a [Node] that passes connections on to its containers' ports. A
// Node that is none passes on none.
type PortDialer interface {
	// DialPort connects to a TCP port of a container: to the container itself, not
	// to where the port is published, so that nothing goes around in circles. The
	// connection is as private as the container's ports are. It should have a
	// CloseWrite, as a *net.TCPConn does.
	//
	// The error for a container or port that is not there, or does not serve, is
	// ErrNotFound. The text of an ErrRefused is told to the other node; that of
	// others is not.
	DialPort(ctx context.Context, id string, port int) (net.Conn, error)
}

// errNoPorts is what a Node says that is no PortDialer.
var errNoPorts = fmt.Errorf("%w: this node passes on no connections", ErrRefused)

// openPort connects to a port, and returns what passes on what is said.
func (s *Server) openPort(ctx context.Context, id, subject string) (func(context.Context, *tls.Conn) error, error) {
	dialer, ok := s.node.(PortDialer)
	if !ok {
		return nil, errNoPorts
	}
	return openTo(ctx, id, subject, dialer.DialPort, splice)
}

// openTo dials the port that a subject names, and returns what passes on what is said,
// which pass does. When the context of that ends, so does the connection to the port.
func openTo(ctx context.Context, id, subject string, dial func(context.Context, string, int) (net.Conn, error), pass func(from *tls.Conn, to net.Conn) error) (func(context.Context, *tls.Conn) error, error) {
	port, err := strconv.Atoi(subject)
	if err != nil {
		return nil, err
	}
	to, err := dial(ctx, id, port)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, c *tls.Conn) error {
		defer context.AfterFunc(ctx, func() { rawconn.Reset(to) })()
		return pass(c, to)
	}, nil
}

// splice copies between two connections until both directions have ended, and
// closes the second one. It returns the first error.
func splice(from *tls.Conn, to net.Conn) error {
	defer to.Close()
	if err := from.SetDeadline(time.Time{}); err != nil {
		return err
	}
	var wg sync.WaitGroup
	errs := make(chan error, 2)
	direction := func(dst halfCloser, src net.Conn) {
		_, err := io.Copy(dst, src)
		if err == nil {
			err = dst.CloseWrite()
		}
		if err != nil {
			// Nobody would read what the other direction still brings.
			_ = from.NetConn().Close()
			rawconn.Reset(to)
		}
		errs <- err
	}
	half, ok := to.(halfCloser)
	if !ok {
		half = wholeCloser{to}
	}
	wg.Go(func() { direction(half, from) })
	direction(from, to)
	wg.Wait()
	return errors.Join(<-errs, <-errs)
}

// halfCloser is a connection of which one direction can be ended.
type halfCloser interface {
	io.Writer
	CloseWrite() error
}

// wholeCloser ends both directions at the end of one.
type wholeCloser struct{ net.Conn }

// CloseWrite implements halfCloser.
func (w wholeCloser) CloseWrite() error { return w.Close() }

// DialPort connects to a TCP port of one of the node's containers, by its number
// in the container. What is said is encrypted, and passes through the node to the
// container itself. The connection is a *tls.Conn, whose CloseWrite ends one
// direction; it ends when the token is changed, but not with the Client.
//
// The errors are ErrNotFound for a container or port that is not there or does not
// serve, ErrBusy, ErrRefused with the node's reason, and those of connections.
func (c *Client) DialPort(ctx context.Context, id string, port int) (net.Conn, error) {
	conn, err := c.dialStream(ctx, portStream, id, port)
	if err != nil {
		return nil, err // not a nil *tls.Conn
	}
	return conn, nil
}

// dialStream opens a stream to a port.
func (c *Client) dialStream(ctx context.Context, kind *streamKind, id string, port int) (*tls.Conn, error) {
	ctx, stop := c.within(ctx)
	defer stop()
	select {
	case c.portDials <- struct{}{}:
		defer func() { <-c.portDials }()
	case <-ctx.Done():
		return nil, c.explain(ctx, ctx.Err())
	}
	conn, err := c.openStream(ctx, kind, id, strconv.Itoa(port))
	if err == nil {
		err = conn.SetDeadline(time.Time{})
	}
	if err != nil {
		return nil, c.explain(ctx, err)
	}
	return conn, nil
}
