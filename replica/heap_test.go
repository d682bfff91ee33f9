package replica

import (
	"fmt"
	"net"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"
)

// verifiedConn calls a function before a receiver says that its copy is verified.
type verifiedConn struct {
	net.Conn
	verified func()
}

func (c verifiedConn) Write(p []byte) (int, error) {
	if p[0] == frameVerified {
		c.verified()
	}
	return c.Conn.Write(p)
}

// heldFor returns how many bytes both sides together hold when they have compared a
// volume of so many files that did not change.
func heldFor(t *testing.T, files int) (held int64) {
	t.Helper()
	src, dst := t.TempDir(), filepath.Join(t.TempDir(), "copy")
	for i := range files {
		write(t, filepath.Join(src, fmt.Sprintf("directory%d", i/100), fmt.Sprintf("file%d", i)), fmt.Sprint(i))
	}
	heap := func() int64 {
		runtime.GC()
		runtime.GC() // what finalizers and pools held
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	for range 2 {
		here, there := net.Pipe()
		before := heap()
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := New().Send(t.Context(), here, src); err != nil {
				t.Errorf("Send: %v", err)
			}
			_ = here.Close()
		})
		conn := verifiedConn{there, func() { held = heap() - before }}
		if _, err := New(Remember(time.Hour, 1<<20)).Receive(t.Context(), conn, dst, ReceiveOptions{}); err != nil {
			t.Errorf("Receive: %v", err)
		}
		_ = there.Close()
		wg.Wait()
	}
	return held
}

// With 1,350 bytes on both sides together, processes of their own take less than
// 100 MiB each for 100,000 files, what is not yet collected included.
func TestMemoryPerFile(t *testing.T) {
	const few, many, most = 200, 2000, 1350
	each := (heldFor(t, many) - heldFor(t, few)) / (many - few)
	t.Logf("%d bytes for each file", each)
	if each <= 0 || each > most {
		t.Errorf("both sides together hold %d bytes for each file, at most %d are allowed", each, most)
	}
}
