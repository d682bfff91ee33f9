//go:build !linux && !darwin

package balance

import "net"

// canPeek says whether newRawIO works.
const canPeek = false

// rawIO is a TCP connection of which can be told whether something has come.
type rawIO struct{ net.Conn }

func newRawIO(net.Conn) *rawIO { return nil }

func (*rawIO) quiet() bool { return false }

func (*rawIO) ready([]byte) int { return 0 }

// pass reads once and writes that to another connection. A failed write is told as a
// writeError, with what was written.
func (r *rawIO) pass(to *rawIO, from *pieces) (n int, err error) {
	b := from.get()
	defer from.put(b)
	if n, err = r.Read(b[:]); n > 0 {
		n, err = ofWriting(to.Write(b[:n]))
	}
	return n, err
}
