package replica

import (
	"net"
	"path/filepath"
	"testing"
	"time"
)

// A sender looks at its source while the receiver, which has said hello, looks at its
// copy; and is through where that one hangs up instead of saying what it can keep.
func TestSenderLooksBeforeItIsTold(t *testing.T) {
	src := t.TempDir()
	write(t, filepath.Join(src, "f"), "content")
	c := New()
	s, release, err := c.acquire(src)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	_, changed, _ := s.current()
	here, there := net.Pipe()
	ended := make(chan error, 1)
	go func() {
		_, err := c.Send(t.Context(), here, src)
		ended <- err
	}()
	if err := newWire(there).greet(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-changed:
	case <-time.After(20 * time.Second):
		t.Fatal("nobody looks at the source")
	}
	if seen, _, err := s.current(); err != nil || len(seen.all) != 2 {
		t.Errorf("seen was %+v, %v", seen, err)
	}
	_ = there.Close()
	if err := <-ended; err == nil {
		t.Error("Send succeeded without a receiver")
	}
}
