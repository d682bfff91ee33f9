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

	"github.com/budgiehq/budgie/trust"
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

// begin counts something that Close has to wait for, unless it was called
// already. leave is its end.
func (s *Server) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.busy++
	return true
}

// takeVolume takes over a connection that a gate let in, and which is to carry a
// volume.
func (s *Server) takeVolume(c *tls.Conn) {
	if !s.begin() {
		s.conns.leave(addrOf(c.RemoteAddr()))
		_ = c.NetConn().Close() // nothing was said on it
		return
	}
	go func() {
		defer s.leave()
		defer s.conns.leave(addrOf(c.RemoteAddr()))
		ctx, cancel := context.WithCancel(s.ctx)
		defer cancel()
		stop := context.AfterFunc(ctx, func() { _ = c.NetConn().Close() }) // without a farewell that could wait
		s.volume(ctx, c)
		s.part(c)
		stop()
		_ = c.Close() // nothing is to be said any more
	}()
}

// volume answers the request for a volume, and sends it.
func (s *Server) volume(ctx context.Context, c *tls.Conn) {
	p, err := trust.PeerOf(c.ConnectionState())
	if err != nil {
		return // a gate has no such connections
	}
	busy := !s.volumes.enter(p.Node)
	if !busy {
		defer s.volumes.leave(p.Node)
	}
	if err := c.SetReadDeadline(time.Now().Add(s.limits.answer)); err != nil {
		return
	}
	id, target, err := readVolumeRequest(c)
	switch {
	case err != nil && !errors.Is(err, ErrInvalid):
		s.log.Debug("a peer did not say which volume it wants", "node", p.Node, "error", err)
		return
	case busy:
		s.answerVolume(c, volumeBusy, "this node sends as many volumes as it does at a time; try again in a moment")
		return
	}
	var send func(context.Context, io.ReadWriteCloser) error
	if err == nil {
		send, err = s.openVolume(ctx, id, target)
	}
	if err != nil {
		status, text, strange := volumeAnswer(err)
		if strange && ctx.Err() == nil {
			s.log.Warn("a peer's request for a volume failed", "node", p.Node, "container", id, "target", target, "error", err)
		}
		s.answerVolume(c, status, text)
		return
	}
	if !s.answerVolume(c, volumeGranted, "") {
		return
	}
	begun := time.Now()
	s.log.Info("a volume is sent", "node", p.Node, "container", id, "target", target)
	err = send(ctx, &patient{c, s.limits.quiet})
	s.log.Info("a volume was sent", "node", p.Node, "container", id, "target", target, "took", time.Since(begun), "error", err)
}

func (s *Server) openVolume(ctx context.Context, id, target string) (func(context.Context, io.ReadWriteCloser) error, error) {
	sender, ok := s.node.(VolumeSender)
	if !ok {
		return nil, errNoVolumes
	}
	ctx, cancel := context.WithTimeout(ctx, s.limits.answer)
	defer cancel()
	return sender.OpenVolume(ctx, id, target)
}

// answerVolume sends an answer, and reports whether it could.
func (s *Server) answerVolume(c *tls.Conn, status volumeStatus, text string) bool {
	if c.SetWriteDeadline(time.Now().Add(s.limits.write)) != nil {
		return false
	}
	_, err := c.Write(encodeVolumeAnswer(status, text))
	return err == nil
}

// part lets the other side read what was said last. Closing with bytes unread
// would make the operating system reset the connection, and take that away.
func (s *Server) part(c *tls.Conn) {
	if c.SetDeadline(time.Now().Add(s.limits.farewell)) == nil && c.CloseWrite() == nil {
		_, _ = io.CopyN(io.Discard, c, 2*maxHeader) // its end, whatever it is, is the end
	}
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
