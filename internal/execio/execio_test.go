package execio_test

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/budgiehq/budgie/internal/execio"
)

// slow takes its time for every write.
type slow struct {
	time.Duration
	got bytes.Buffer
}

func (s *slow) Write(p []byte) (int, error) {
	<-time.After(s.Duration)
	return s.got.Write(p)
}

// TestDrainWaitsForSlowReceivers: what is on its way is not given up because its
// receiver is slow, unless the context has ended.
func TestDrainWaitsForSlowReceivers(t *testing.T) {
	for _, ended := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			var o execio.Output
			to := &slow{Duration: time.Hour}
			w := o.To(to)
			all := make(chan struct{})
			go func() {
				defer close(all)
				for range 3 {
					_, _ = w.Write([]byte("x"))
				}
			}()
			synctest.Wait()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if ended {
				cancel()
			}
			start := time.Now()
			if got := o.Drain(ctx, all); got == ended {
				t.Errorf("with an ended context %v: Drain says %v", ended, got)
			}
			if took := time.Since(start); ended && took > 2*execio.Patience {
				t.Errorf("gave up after %v", took)
			}
			<-all
			if to.got.String() != "xxx" {
				t.Errorf("the receiver has %q", to.got.String())
			}
		})
	}
}

// TestDrainGivesUp: output that somebody holds and does not write to is waited
// for so long and no longer.
func TestDrainGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o execio.Output
		start := time.Now()
		if o.Drain(t.Context(), make(chan struct{})) {
			t.Error("there was an end of what has none")
		}
		if took := time.Since(start); took != execio.Patience {
			t.Errorf("gave up after %v", took)
		}
	})
}

// TestFailedReceiver: what a receiver cannot take is thrown away.
func TestFailedReceiver(t *testing.T) {
	var o execio.Output
	var left int
	w := o.To(writerFunc(func(p []byte) (int, error) {
		if left++; left > 2 {
			return 0, io.ErrClosedPipe
		}
		return len(p), nil
	}))
	if n, err := io.Copy(w, strings.NewReader(strings.Repeat("x", 1<<20))); n != 1<<20 || err != nil {
		t.Errorf("%d bytes taken, %v", n, err)
	}
	for range 3 {
		if n, err := w.Write([]byte("abc")); n != 3 || err != nil {
			t.Errorf("%d bytes taken, %v", n, err)
		}
	}
	if left != 3 {
		t.Errorf("the receiver was asked %d times", left)
	}
	if n, err := o.To(nil).Write([]byte("abc")); n != 3 || err != nil {
		t.Errorf("nowhere takes %d bytes, %v", n, err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// TestTyping: whatever way the end comes, it is typed once where a line begins,
// twice in the midst of one, and then there is silence.
func TestTyping(t *testing.T) {
	for _, test := range []struct{ in, want string }{
		{"", "\x04"},
		{"a line\n", "a line\n\x04"},
		{"enter\r", "enter\r\x04"},
		{"half", "half\x04\x04"},
		{"one\ntw", "one\ntw\x04\x04"},
	} {
		for name, wrap := range map[string]func(io.Reader) io.Reader{
			"plain": func(r io.Reader) io.Reader { return r }, "bytes": iotest.OneByteReader,
			"data with error": iotest.DataErrReader, "failing": func(r io.Reader) io.Reader { return io.MultiReader(r, iotest.ErrReader(io.ErrClosedPipe)) },
		} {
			synctest.Test(t, func(t *testing.T) {
				ended := make(chan struct{})
				var got []byte
				done := make(chan struct{})
				go func() {
					defer close(done)
					var err error
					if got, err = io.ReadAll(iotest.OneByteReader(execio.Typing(wrap(strings.NewReader(test.in)), ended))); err != nil {
						t.Error(err)
					}
				}()
				synctest.Wait()
				select {
				case <-done:
					t.Errorf("%s: %q ended before the command", name, test.in)
				default:
				}
				close(ended)
				<-done
				if string(got) != test.want {
					t.Errorf("%s: %q is typed as %q", name, test.in, got)
				}
			})
		}
	}
}
