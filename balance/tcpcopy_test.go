package balance_test

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"
)

// A stream with pieces before, in between and after it arrives as it was sent, in both
// directions at once, whichever way its parts are copied.
func TestTCPStreams(t *testing.T) {
	f := openTCP(t)
	f.set(rawBackend(t, func(_ int, c *net.TCPConn) {
		io.Copy(c, c)
		c.CloseWrite()
	}))
	c := dial(t, f)
	c.SetDeadline(time.Now().Add(patience))
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	sent := make([]byte, 20<<20) // more than is moved as a stream before that is looked at again
	for i := range sent {
		sent[i] = byte(random.Uint32())
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		defer c.CloseWrite()
		for rest := sent; len(rest) > 0; {
			n := min(1+random.IntN(100), len(rest))
			if random.IntN(3) == 0 {
				n = min(random.IntN(4<<20), len(rest))
			}
			if _, err := c.Write(rest[:n]); err != nil {
				t.Error(err)
				return
			}
			rest = rest[n:]
		}
	})
	got, err := io.ReadAll(c)
	wg.Wait()
	if err != nil || !bytes.Equal(got, sent) {
		t.Errorf("%d bytes came back, %v; %d were sent", len(got), err, len(sent))
	}
}
