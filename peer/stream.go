package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"time"

	"github.com/budgiehq/budgie/trust"
)

// A streamService serves the streams of a kind.
type streamService struct {
	kind *streamKind
	// slots count the streams of each node.
	slots *quota[string]
	// level is at which the log tells of them.
	level slog.Level
	// open looks up what is asked for. What it returns has the connection until it
	// returns; the connection fails when ctx ends.
	open func(ctx context.Context, id, subject string) (func(ctx context.Context, c *tls.Conn) error, error)
}

// newStreams returns what serves streams, by the protocol of their connections.
func (s *Server) newStreams() map[string]*streamService {
	l := s.limits
	return map[string]*streamService{
		volumeStream.alpn:   {volumeStream, newQuota[string](l.volumes, l.volumesPerNode), slog.LevelInfo, s.openVolume},
		portStream.alpn:     {portStream, newQuota[string](l.ports, l.portsPerNode), slog.LevelDebug, s.openPort},
		datagramStream.alpn: {datagramStream, newQuota[string](l.datagrams, l.datagramsPerNode), slog.LevelDebug, s.openDatagrams},
	}
}

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

// takeStream takes over a connection that a gate let in, and which is to carry a
// stream.
func (s *Server) takeStream(c *tls.Conn) {
	p, err := trust.PeerOf(c.ConnectionState())
	if err != nil || !s.begin() {
		_ = c.NetConn().Close() // nothing was said on it
		return
	}
	v := s.streams[c.ConnectionState().NegotiatedProtocol]
	leave := func() { v.slots.leave(p.Node) }
	busy := !v.slots.enter(p.Node)
	if busy {
		// It is told so, if there is room for that.
		addr := addrOf(c.RemoteAddr())
		if !s.conns.enter(addr) {
			s.log.Warn("a peer has too many connections", "address", c.RemoteAddr())
			_ = c.NetConn().Close() // it is not wanted
			s.leave()
			return
		}
		leave = func() { s.conns.leave(addr) }
	}
	go func() {
		defer s.leave()
		defer leave()
		ctx, cancel := context.WithCancel(s.ctx)
		defer cancel()
		stop := context.AfterFunc(ctx, func() { _ = c.NetConn().Close() }) // without a farewell that could wait
		s.stream(ctx, c, v, p.Node, busy)
		s.part(c)
		stop()
		_ = c.Close() // nothing is to be said any more
	}()
}

// stream answers the request for a stream, and serves it.
func (s *Server) stream(ctx context.Context, c *tls.Conn, v *streamService, node string, busy bool) {
	if err := c.SetReadDeadline(time.Now().Add(s.limits.answer)); err != nil {
		return
	}
	id, subject, err := v.kind.readRequest(c)
	log := s.log.With("node", node, "container", id, v.kind.noun, subject)
	switch {
	case err != nil && !errors.Is(err, ErrInvalid):
		log.Debug("a peer did not say what it wants", "error", err)
		return
	case busy:
		s.answerStream(c, streamBusy, "this node has as many of a "+v.kind.noun+" under way as it does at a time; try again in a moment")
		return
	}
	var serve func(context.Context, *tls.Conn) error
	if err == nil {
		opening, cancel := context.WithTimeout(ctx, s.limits.answer)
		serve, err = v.open(opening, id, subject)
		cancel()
	}
	if err != nil {
		status, text, strange := v.kind.answer(err)
		if strange && ctx.Err() == nil {
			log.Warn("a peer's request failed", "error", err)
		}
		s.answerStream(c, status, text)
		return
	}
	if !s.answerStream(c, streamGranted, "") {
		return
	}
	begun := time.Now()
	log.Log(ctx, v.level, "a peer gets what it asked for")
	err = serve(ctx, c)
	log.Log(ctx, v.level, "a peer got what it asked for", "took", time.Since(begun), "error", err)
}

// answerStream sends an answer, and reports whether it could.
func (s *Server) answerStream(c *tls.Conn, status streamStatus, text string) bool {
	if c.SetWriteDeadline(time.Now().Add(s.limits.write)) != nil {
		return false
	}
	_, err := c.Write(encodeStreamAnswer(status, text))
	return err == nil
}

// mostUnread is how much of what the other side still says is read at a parting: as
// much as a request can have that was refused by its first bytes.
const mostUnread = 128 << 10

// part lets the other side read what was said last. Closing with bytes unread
// would make the operating system reset the connection, and take that away.
func (s *Server) part(c *tls.Conn) {
	if c.SetDeadline(time.Now().Add(s.limits.farewell)) == nil && c.CloseWrite() == nil {
		_, _ = io.CopyN(io.Discard, c, mostUnread) // its end, whatever it is, is the end
	}
}
