package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"time"
)

// openStream returns a connection on which the node has agreed to a request.
func (c *Client) openStream(ctx context.Context, k *streamKind, id, subject string) (*tls.Conn, error) {
	request, err := k.request(id, subject)
	if err != nil {
		return nil, err
	}
	addr, err := c.streamAddr(ctx)
	if err != nil {
		return nil, err
	}
	raw, err := patiently(ctx, dialTimeout, func(ctx context.Context) (net.Conn, error) { return c.dial(ctx, addr) })
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	conn, err := patiently(ctx, proveTimeout, func(ctx context.Context) (*tls.Conn, error) {
		return c.flock.Client(ctx, cutConn{raw, errCut}, c.expected(), k.alpn)
	})
	if err != nil {
		return nil, k.tooOld(err)
	}
	if err := agree(ctx, conn, request); err != nil {
		_ = conn.NetConn().Close() // it is of no use
		return nil, k.tooOld(err)
	}
	return conn, nil
}

// streamAddr returns the address that answers.
func (c *Client) streamAddr(ctx context.Context) (netip.AddrPort, error) {
	if len(c.addrs) == 1 {
		return c.addrs[0], nil
	}
	_, err := c.Connect(ctx)
	return c.Addr(), err
}

// cutConn is a connection on which an end without a farewell is an error: crypto/tls
// takes one between two records for the end of what there was to say (RFC 8446
// section 6.1 calls that a truncation).
type cutConn struct {
	net.Conn
	cut error // what it is then
}

// Read implements io.Reader.
func (c cutConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if errors.Is(err, io.EOF) {
		err = c.cut
	}
	return n, err
}

// errCut is that of a client. To a server it is an end all the same, as of a follower that
// hangs up, except to who looks for io.EOF itself, as io.Copy does.
var (
	errCut    = errors.New("the connection was cut off")
	errHungUp = fmt.Errorf("%w: %w", errCut, io.EOF)
)

// NetConn returns what it is on.
func (c cutConn) NetConn() net.Conn { return c.Conn }

// cutListener is a listener of such connections.
type cutListener struct{ net.Listener }

// Accept implements net.Listener.
func (l cutListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return cutConn{c, errHungUp}, nil
}

// agree sends a request on a new connection, and reads the answer.
func agree(ctx context.Context, conn *tls.Conn, request []byte) error {
	defer context.AfterFunc(ctx, func() { _ = conn.NetConn().Close() })()
	err := conn.SetDeadline(time.Now().Add(answerTimeout))
	if err == nil {
		_, err = conn.Write(request)
	}
	if err != nil {
		return verdict(conn, err)
	}
	return readStreamAnswer(conn)
}

// tooOld says what it means where a node does not know the protocol: its alert
// is no_application_protocol (RFC 7301 section 3.2).
func (k *streamKind) tooOld(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "remote error" && strings.Contains(op.Error(), "no application protocol") {
		return fmt.Errorf("%w: its Budgie is too old to %s: update it", ErrRefused, k.verb)
	}
	return err
}
