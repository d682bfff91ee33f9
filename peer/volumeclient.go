package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// ReceiveVolume asks the node for the volume that one of its containers sees at
// target, and calls receive with a connection of its own, at whose other end the
// node's Syncer sends it. receive makes its copy with the Receive of a Syncer,
// and returns when it is complete; conn fails when ctx or the Client ends, when
// the token is changed, and when nothing came of it for 15 minutes. It is closed
// afterwards.
//
// The error of receive comes back as it is, unless ctx or the Client ended. The
// others are ErrNotFound for a container or volume that is not there, ErrBusy,
// ErrRefused with the node's reason, and those of connections.
func (c *Client) ReceiveVolume(ctx context.Context, id, target string, receive func(conn io.ReadWriteCloser) error) error {
	ctx, stop := c.within(ctx)
	defer stop()
	conn, err := c.openVolume(ctx, id, target)
	if err != nil {
		return c.explain(ctx, err)
	}
	defer conn.NetConn().Close()
	defer context.AfterFunc(ctx, func() { _ = conn.NetConn().Close() })()
	err = receive(&patient{conn, quiet})
	if ctx.Err() != nil && err != nil {
		return c.explain(ctx, err)
	}
	if err == nil {
		// The node sees that it is over, rather than that it was cut off.
		_ = conn.SetWriteDeadline(time.Now().Add(goodbye))
		_ = conn.Close()
	}
	return err
}

// openVolume returns a connection on which the node has agreed to send a volume.
func (c *Client) openVolume(ctx context.Context, id, target string) (*tls.Conn, error) {
	request, err := encodeVolumeRequest(id, target)
	if err != nil {
		return nil, err
	}
	if _, err := c.Connect(ctx); err != nil { // which address answers
		return nil, err
	}
	addr := c.Addr()
	raw, err := patiently(ctx, dialTimeout, func(ctx context.Context) (net.Conn, error) { return c.dial(ctx, addr) })
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	conn, err := patiently(ctx, proveTimeout, func(ctx context.Context) (*tls.Conn, error) {
		return c.flock.Client(ctx, raw, c.expected(), alpnVolume)
	})
	if err != nil {
		return nil, tooOld(err)
	}
	if err := agree(ctx, conn, request); err != nil {
		_ = conn.NetConn().Close() // it is of no use
		return nil, tooOld(err)
	}
	return conn, nil
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
	return readVolumeAnswer(conn)
}

// tooOld says what it means where a node does not know the protocol: its alert
// is no_application_protocol (RFC 7301 section 3.2).
func tooOld(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "remote error" && strings.Contains(op.Error(), "no application protocol") {
		return fmt.Errorf("%w: its Budgie is too old to hand out volumes: update it", ErrRefused)
	}
	return err
}
