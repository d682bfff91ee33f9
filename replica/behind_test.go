package replica

import (
	"errors"
	"net"
	"path/filepath"
	"sync"
	"testing"
)

// A source that was told of a change, and has not looked at it yet, as a large file takes
// a while to be read, does not say that a copy is as it.
func TestSourceThatIsStillLooking(t *testing.T) {
	src := t.TempDir()
	write(t, filepath.Join(src, "f"), "1")
	c := New()
	s, _ := lookAt(t, c, src)
	here, there := net.Pipe()
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = c.Send(t.Context(), here, src) }) // the receiver hangs up
	defer wg.Wait()
	defer there.Close()
	w := newWire(there)
	r := &receiver{wire: w, copy: &target{}}
	if err := errors.Join(w.greet(), w.offer(ability{}), r.manifest()); err != nil {
		t.Fatal(err)
	}
	d := r.m.digest()
	err := errors.Join(w.write(frameWantEnd, []byte{1}), w.flush(), errOf(w.read()), w.write(frameVerified, d[:], make([]byte, 4)), w.flush(), errOf(w.read()))
	if err != nil {
		t.Fatal(err)
	}
	// said returns what the source says in the end, after some times the other thing.
	said := func(want byte) byte {
		var status byte
		for range 5 {
			if err := r.next(nextChange); err != nil {
				t.Fatal(err)
			}
			kind, payload, err := w.read()
			if err != nil || kind != frameIdle {
				return 0xff
			}
			if status = payload[0]; status == want {
				break
			}
		}
		return status
	}
	if got := said(idleSame); got != idleSame {
		t.Fatalf("the source says %d of what it has sent", got)
	}
	s.looking <- struct{}{} // it is busy
	write(t, filepath.Join(src, "f"), "2")
	if got := said(idleBehind); got != idleBehind {
		t.Errorf("the source says %d while it looks at what has changed", got)
	}
	<-s.looking
	if got := said(idleSame); got != 0xff {
		t.Errorf("the source says %d instead of what has changed", got)
	}
}
