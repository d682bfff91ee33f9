package replica

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// countingConn counts what is read from it.
type countingConn struct {
	net.Conn
	read int
}

func (c *countingConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.read += n
	return n, err
}

// countedCopy makes a copy, and returns how many bytes its source got, and it.
func countedCopy(t *testing.T, from, to *Copier, src, dst string) (toSource, toCopy int, _ Report) {
	t.Helper()
	here, there := net.Pipe()
	source, sink := &countingConn{Conn: here}, &countingConn{Conn: there}
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := from.Send(t.Context(), source, src); err != nil {
			t.Errorf("Send: %v", err)
		}
		_ = here.Close()
	})
	report, err := to.Receive(t.Context(), sink, dst, ReceiveOptions{})
	_ = there.Close()
	wg.Wait()
	if err != nil {
		t.Fatalf("Receive: %v", err)
	}
	return source.read, sink.read, report
}

// receivedBytes makes a copy that is remembered, and returns how many bytes came.
func receivedBytes(t *testing.T, src, dst string) (int, Report) {
	t.Helper()
	_, n, report := countedCopy(t, New(), New(Remember(time.Hour, 1<<20)), src, dst)
	return n, report
}

// Of a volume that is what its copy was, nothing travels: whatever the number of its
// files. What was done to the copy meanwhile is noticed all the same.
func TestUnchangedVolumeIsNotListed(t *testing.T) {
	src, dst := t.TempDir(), filepath.Join(t.TempDir(), "copy")
	for i := range 500 {
		write(t, filepath.Join(src, fmt.Sprintf("file%d", i)), fmt.Sprint(i))
	}
	first, whole := receivedBytes(t, src, dst)
	if first < 500*50 {
		t.Errorf("the first copy took %d bytes", first)
	}
	again, report := receivedBytes(t, src, dst)
	if again > 200 || report.Files != 500 || report.Digest != whole.Digest {
		t.Errorf("of a volume that did not change, %d bytes came: %+v", again, report)
	}

	write(t, filepath.Join(dst, "file7"), "mine")
	if err := os.Remove(filepath.Join(dst, "file8")); err != nil {
		t.Fatal(err)
	}
	again, report = receivedBytes(t, src, dst)
	if again > 1000 || len(report.Conflicts) != 2 {
		t.Errorf("%d bytes came, and the conflicts are %+v", again, report.Conflicts)
	}
	for _, name := range []string{"file7", "file8"} {
		if got, err := os.ReadFile(filepath.Join(dst, name)); err != nil || string(got) != name[4:] {
			t.Errorf("%s is %q, %v", name, got, err)
		}
	}

	write(t, filepath.Join(src, "file9"), "changed")
	if _, report = receivedBytes(t, src, dst); report.Transferred != int64(len("changed")) {
		t.Errorf("a change of the source took %+v", report)
	}
}

// A sender cannot take for known what the receiver did not speak of.
func TestSameNeedsABase(t *testing.T) {
	here, there := net.Pipe()
	defer here.Close()
	go func() {
		w := newWire(here)
		ready := func() error { return nil }
		if w.welcome(ready) == nil {
			_, _, _ = w.offered()
			_ = errors.Join(w.write(frameSame), w.flush())
			_, _ = io.Copy(io.Discard, here)
		}
	}()
	if _, err := New(Remember(time.Hour, 1<<20)).Receive(t.Context(), there, filepath.Join(t.TempDir(), "copy"), ReceiveOptions{}); !errors.Is(err, ErrProtocol) {
		t.Errorf("Receive: %v", err)
	}
	_ = there.Close()
}

// Only what both sides know is said: an older sender is not told what the copy was.
func TestOldSenderHearsNoBase(t *testing.T) {
	here, there := net.Pipe()
	said := make(chan int, 1)
	go func() {
		w := newWire(here)
		if _, err := w.expect(frameHello, len(magic)+4); err == nil {
			_ = errors.Join(w.write(frameHello, []byte(magic), []byte{0, version3 - 1}), w.flush())
		}
		payload, err := w.expect(frameKeeps, -1)
		if err != nil {
			t.Errorf("keeps: %v", err)
		}
		said <- len(payload)
		_ = here.Close()
	}()
	src, dst := t.TempDir(), filepath.Join(t.TempDir(), "copy")
	write(t, filepath.Join(src, "f"), "1")
	receivedBytes(t, src, dst)
	_, err := New(Remember(time.Hour, 1<<20)).Receive(t.Context(), there, dst, ReceiveOptions{})
	if n := <-said; n != 9 || err == nil {
		t.Errorf("keeps has %d bytes; Receive: %v", n, err)
	}
	_ = there.Close()
}
