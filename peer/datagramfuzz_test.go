package peer

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"
)

// FuzzDatagrams reads what another node says: whatever it is, the datagrams that come of
// it are those that it says, in whatever pieces it comes, and nothing is made up.
func FuzzDatagrams(f *testing.F) {
	f.Add([]byte("\x00\x05hello\x00\x00\x00\x01!"))
	f.Add([]byte("\xff\xffshort"))
	f.Add([]byte("\x00"))
	f.Add(append([]byte{0x20, 0x00}, make([]byte, 0x2000)...))
	f.Fuzz(func(t *testing.T, stream []byte) {
		var again []byte
		c := &datagramConn{r: bufio.NewReaderSize(iotest.OneByteReader(bytes.NewReader(stream)), 16)}
		buf := make([]byte, maxDatagram)
		for {
			n, err := c.Read(buf)
			if err != nil {
				if rest := stream[len(again):]; len(rest) == 0 != errors.Is(err, io.EOF) || len(rest) > 0 && !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Fatalf("with %d bytes left: %v", len(rest), err)
				}
				break
			}
			again = append(append(again, byte(n>>8), byte(n)), buf[:n]...)
		}
		if !bytes.HasPrefix(stream, again) {
			t.Fatalf("%q came as %q", stream, again)
		}
	})
}
