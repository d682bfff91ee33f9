package balance

import (
	"math"
	"net"
	"testing"
	"time"
)

func TestGRPCTimeout(t *testing.T) {
	for field, want := range map[string]time.Duration{
		"1n": 1, "30u": 30 * time.Microsecond, "100m": 100 * time.Millisecond, "0S": 0,
		"5S": 5 * time.Second, "2M": 2 * time.Minute, "1H": time.Hour, "99999999H": math.MaxInt64,
		"": -1, "5": -1, "S": -1, "5s": -1, "-5S": -1, "+5S": -1, "5 S": -1, "123456789S": -1, "5.0S": -1, "0x1S": -1, "1_0S": -1,
	} {
		got, ok := grpcTimeout(field)
		if !ok {
			got = -1
		}
		if got != want {
			t.Errorf("%q: %v; want %v", field, got, want)
		}
	}
}

func FuzzGRPCTimeout(f *testing.F) {
	for _, s := range []string{"1n", "99999999H", "5", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if d, ok := grpcTimeout(s); d < 0 || !ok && d != 0 {
			t.Errorf("%q: %v, %v", s, d, ok)
		}
	})
}

// FuzzFrames writes the same frames in pieces and checks that the notice of a drain
// comes between two of them, once.
func FuzzFrames(f *testing.F) {
	f.Add([]byte{0, 0, 2, 0, 0, 0, 0, 0, 1, 'a', 'b', 0, 0, 0, 4, 0, 0, 0, 0, 0}, uint8(3), uint8(1))
	f.Fuzz(func(t *testing.T, frames []byte, piece, before uint8) {
		under := &written{}
		c := newH2Conn(under, &clientConn{}, nil)
		size := int(piece)%20 + 1
		for i := 0; i < len(frames); i += size {
			if i/size == int(before) {
				c.mu.Lock()
				if c.part == partUnsaid {
					c.part = partWanted
				}
				c.sayPart()
				c.mu.Unlock()
			}
			c.Write(frames[i:min(i+size, len(frames))])
		}
		checkNotice(t, frames, under.all)
	})
}

// checkNotice checks that got is want, with at most one notice, at the beginning of
// a frame.
func checkNotice(t *testing.T, want, got []byte) {
	t.Helper()
	if len(got) != len(want) && len(got) != len(want)+len(parting) {
		t.Fatalf("%d bytes became %d", len(want), len(got))
	}
	at := 0
	for at < len(want) && len(got) > len(want) {
		if at > 0 && string(got[at:at+len(parting)]) == string(parting) && string(got[at+len(parting):]) == string(want[at:]) {
			break
		}
		if at+9 > len(want) {
			at = len(want) + 1
			break
		}
		at += 9 + int(want[at])<<16 + int(want[at+1])<<8 + int(want[at+2])
	}
	if len(got) > len(want) && (at > len(want) || string(got[:at]) != string(want[:at]) || string(got[at:at+len(parting)]) != string(parting)) {
		t.Errorf("the notice is not between frames: % x became % x", want, got)
	}
}

// written is a connection that keeps what is written.
type written struct {
	net.Conn
	all []byte
}

func (w *written) Write(p []byte) (int, error) {
	w.all = append(w.all, p...)
	return len(p), nil
}
