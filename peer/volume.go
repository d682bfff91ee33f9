package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

// VolumeSender is a [Node] that hands out its containers' volumes. Of a Node
// that is none, no volumes can be had.
type VolumeSender interface {
	// OpenVolume looks up the volume that a container sees at target, which came
	// from another node: it is to be compared with the targets of the container
	// and never used as a path. The function that it returns sends the volume to
	// the Receive of a Syncer at the other end of conn, and returns when conn is
	// of no use to it any more; conn fails when ctx ends.
	//
	// The error for a container or volume that is not there is ErrNotFound. The
	// text of an ErrRefused is told to the other node; that of others is not.
	OpenVolume(ctx context.Context, id, target string) (send func(ctx context.Context, conn io.ReadWriteCloser) error, err error)
}

// errNoVolumes is what a Node says that is no VolumeSender.
var errNoVolumes = fmt.Errorf("%w: this node hands out no volumes", ErrRefused)

// openVolume looks a volume up, and returns what sends it.
func (s *Server) openVolume(ctx context.Context, id, target string) (func(context.Context, *tls.Conn) error, error) {
	sender, ok := s.node.(VolumeSender)
	if !ok {
		return nil, errNoVolumes
	}
	send, err := sender.OpenVolume(ctx, id, target)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, c *tls.Conn) error { return send(ctx, &patient{c, s.limits.quiet}) }, nil
}

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
	conn, err := c.openStream(ctx, volumeStream, id, target)
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

// patient is a connection whose other side may take its time, but not for ever.
// It has no deadlines for its user to set: those are its own. To interrupt it,
// close it.
type patient struct {
	conn net.Conn
	// quiet is how long nothing may come, or be taken.
	quiet time.Duration
}

// Read implements io.Reader.
func (p *patient) Read(b []byte) (int, error) {
	if err := p.conn.SetReadDeadline(time.Now().Add(p.quiet)); err != nil {
		return 0, err
	}
	n, err := p.conn.Read(b)
	return n, p.explain(err)
}

// Write implements io.Writer. Each piece must be taken in time, however much
// there is.
func (p *patient) Write(b []byte) (int, error) {
	written := 0
	for {
		if err := p.conn.SetWriteDeadline(time.Now().Add(p.quiet)); err != nil {
			return written, err
		}
		n, err := p.conn.Write(b[written:min(len(b), written+writeSize)])
		written += n
		if err != nil || written == len(b) {
			return written, p.explain(err)
		}
	}
}

// Close implements io.Closer. It does not wait for anything.
func (p *patient) Close() error {
	if t, ok := p.conn.(*tls.Conn); ok {
		return t.NetConn().Close()
	}
	return p.conn.Close()
}

func (p *patient) explain(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("%w: the transfer of the volume did not go on for %s", ErrSilent, p.quiet)
	}
	return err
}
