package replica

import (
	"errors"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// writingConn calls a hook at each write after the n-th byte.
type writingConn struct {
	net.Conn
	n    int
	hook func()
}

func (c *writingConn) Write(p []byte) (int, error) {
	if c.n -= len(p); c.n < 0 && c.hook != nil {
		c.hook()
	}
	return c.Conn.Write(p)
}

// A file whose times prove that it was left alone is not hashed once more as it is sent.
// What is done to it meanwhile is noticed, even if its time of modification is put back:
// it is sent again.
func TestFilesThatChangeAsTheyAreSentUnhashed(t *testing.T) {
	noise := make([]byte, 2<<20)
	_, _ = rand.NewChaCha8([32]byte{11}).Read(noise)
	content := string(noise)
	for name, put := range map[string]func(file string, was os.FileInfo) error{
		"written into": func(string, os.FileInfo) error { return nil },
		"written into, with its time put back": func(file string, was os.FileInfo) error {
			return os.Chtimes(file, was.ModTime(), was.ModTime())
		},
	} {
		src, dst := t.TempDir(), filepath.Join(t.TempDir(), "copy")
		file := filepath.Join(src, "f")
		write(t, file, content)
		was, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		c := New()
		s, seen := lookAt(t, c, src)
		seen.at = time.Now().Add(time.Hour) // as if it had been left alone for as long
		proven := &sender{viewed: seen}
		if _, still := proven.still(was, seen.all[1].entry); !still {
			t.Error("its times prove nothing")
		}
		here, there := net.Pipe()
		end := len(content) - 1
		changed := content[:end] + string([]byte{content[end] + 1})
		conn := &writingConn{Conn: here, n: len(content) / 2}
		conn.hook = func() {
			conn.hook = nil
			f, err := os.OpenFile(file, os.O_WRONLY, 0)
			if err == nil {
				_, err = f.WriteString(changed)
				err = errors.Join(err, f.Close(), put(file, was))
			}
			if err != nil {
				t.Error(err)
			}
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := c.Send(t.Context(), conn, src); err != nil {
				t.Errorf("%s: Send: %v", name, err)
			}
			_ = here.Close()
		})
		_, err = New().Receive(t.Context(), there, dst, ReceiveOptions{})
		_ = there.Close()
		wg.Wait()
		if got, rerr := os.ReadFile(filepath.Join(dst, "f")); err != nil || string(got) != changed || conn.hook != nil {
			t.Errorf("%s: the copy has %.1q: %v, %v", name, got, err, rerr)
		}
		if s.now == seen {
			t.Errorf("%s: it was not looked at again", name)
		}
	}
}
