package stall

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const window = 10 * time.Second

// get requests over a guarded connection in memory. script is the server: it
// has read the request, and writes an answer. receive, where set, is called
// before each Read of the body.
func get(ctx context.Context, guard Guard, script func(w io.Writer), receive func()) (read int, took time.Duration, err error) {
	client, server := net.Pipe()
	served := make(chan struct{})
	go func() {
		defer close(served)
		defer server.Close()
		if _, err := http.ReadRequest(bufio.NewReader(server)); err == nil {
			script(server)
		}
	}()
	base := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return client, nil }}
	defer func() { base.CloseIdleConnections(); client.Close(); <-served }()
	began := time.Now()
	defer func() { took = time.Since(began) }() // before the server is waited for
	told := 0
	transport := guard.Transport(base, func(req *http.Request, n int) { told += n })
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://registry.example/blob", nil)
	if err != nil {
		return 0, 0, err
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return 0, 0, err
	}
	defer resp.Body.Close()
	buf := make([]byte, 100)
	for err == nil {
		if receive != nil {
			receive()
		}
		var n int
		n, err = resp.Body.Read(buf)
		read += n
	}
	if told != read {
		return read, 0, fmt.Errorf("told of %d of %d bytes", told, read)
	}
	if err == io.EOF {
		err = nil
	}
	return read, 0, err
}

func header(w io.Writer, length int) {
	fmt.Fprintf(w, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", length)
}

// drip sends n pieces of size bytes, with a pause before each.
func drip(w io.Writer, n, size int, pause time.Duration) {
	for range n {
		time.Sleep(pause)
		if _, err := io.WriteString(w, strings.Repeat("x", size)); err != nil {
			return
		}
	}
}

func TestStalls(t *testing.T) {
	guard := Guard{Window: window, MinBytes: 1000}
	for _, c := range []struct {
		name   string
		guard  Guard
		script func(w io.Writer)
		// after is when it is given up, 0 if it is not.
		after time.Duration
		read  int
	}{
		{"no answer", guard, func(io.Writer) { time.Sleep(time.Hour) }, window, 0},
		{"an answer that comes late", guard, func(w io.Writer) {
			time.Sleep(window - time.Second)
			header(w, 10)
			drip(w, 1, 10, window-time.Second)
		}, 0, 10},
		{"nothing after the header", guard, func(w io.Writer) { header(w, 10); time.Sleep(time.Hour) }, window, 0},
		{"too slow all along", guard, func(w io.Writer) { header(w, 100_000); drip(w, 1000, 50, 900*time.Millisecond) }, window, 550},
		{"fast, then silent", guard, func(w io.Writer) {
			header(w, 100_000)
			drip(w, 12, 100, 900*time.Millisecond)
			time.Sleep(time.Hour)
		}, 2 * window, 1200},
		{"just fast enough", guard, func(w io.Writer) { header(w, 20_000); drip(w, 200, 100, time.Second/2) }, 0, 20_000},
		{"short and slow", guard, func(w io.Writer) { header(w, 9); drip(w, 9, 1, time.Second) }, 0, 9},
		{"one byte is enough", Guard{Window: window}, func(w io.Writer) { header(w, 20); drip(w, 20, 1, window-1) }, 0, 20},
		{"without a guard", Guard{}, func(w io.Writer) { header(w, 1); drip(w, 1, 1, 24*time.Hour) }, 0, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				read, took, err := get(t.Context(), c.guard, c.script, nil)
				if c.after == 0 {
					if err != nil || read != c.read {
						t.Fatalf("read %d bytes, %v; want %d", read, err, c.read)
					}
					return
				}
				if !errors.Is(err, ErrStalled) || !strings.Contains(err.Error(), "registry.example sent ") {
					t.Errorf("the error is %v", err)
				}
				if took != c.after || read != c.read {
					t.Errorf("given up after %s with %d bytes; want %s, %d", took, read, c.after, c.read)
				}
			})
		})
	}
}

// A receiver that takes its time is not the server's fault.
func TestSlowReceiver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		read, _, err := get(t.Context(), Guard{Window: window, MinBytes: 1000},
			func(w io.Writer) { header(w, 500); drip(w, 5, 100, 0) },
			func() { time.Sleep(time.Hour) })
		if err != nil || read != 500 {
			t.Errorf("read %d bytes, %v", read, err)
		}
	})
}

// The end of the request's own context stays what it is.
func TestContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, _, err := get(ctx, Guard{Window: window}, func(w io.Writer) { header(w, 10); time.Sleep(time.Hour) }, nil)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the error is %v", err)
		}
	})
}

// What is read from elsewhere than HTTP is held to the guard, too: that it opens
// and that it brings something.
func TestOpen(t *testing.T) {
	guard := Guard{Window: window, MinBytes: 10}
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		_, err := guard.Open(t.Context(), "peer", func(ctx context.Context) (io.ReadCloser, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		})
		if !errors.Is(err, ErrStalled) || time.Since(began) != window {
			t.Errorf("what does not open gives %v after %s", err, time.Since(began))
		}
		refused := errors.New("connection refused")
		if _, err := guard.Open(t.Context(), "peer", func(context.Context) (io.ReadCloser, error) { return nil, refused }); !errors.Is(err, refused) {
			t.Errorf("what cannot be opened gives %v", err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		r, w := io.Pipe()
		defer w.Close()
		got, err := guard.Open(t.Context(), "peer", func(ctx context.Context) (io.ReadCloser, error) {
			context.AfterFunc(ctx, func() { r.CloseWithError(ctx.Err()) })
			go func() { _, _ = w.Write([]byte("five ")) }()
			return r, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		defer got.Close()
		if data, err := io.ReadAll(got); string(data) != "five " || !errors.Is(err, ErrStalled) || !strings.Contains(err.Error(), "peer") {
			t.Errorf("%q, %v", data, err)
		}
		if took := time.Since(began); took != window {
			t.Errorf("given up after %s", took)
		}
	})
}
