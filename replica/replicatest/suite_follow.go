package replicatest

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/budgiehq/budgie/replica"
)

// pair is a Send and a Follow of one connection.
type pair struct {
	cancel      context.CancelFunc
	here, there net.Conn
	states      chan replica.FollowState
	wg          sync.WaitGroup
	// ended is why Follow ended, once done is closed.
	ended error
	done  chan struct{}
}

func follow(t *testing.T, s Syncer, src, dst string) *pair {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	p := &pair{cancel: cancel, states: make(chan replica.FollowState, 1<<12), done: make(chan struct{})}
	p.here, p.there = net.Pipe()
	p.wg.Go(func() {
		_, _ = s.Send(ctx, p.here, src) // the other end says what counts
		_ = p.here.Close()
	})
	p.wg.Go(func() {
		defer close(p.done)
		defer close(p.states)
		p.ended = s.Follow(ctx, p.there, dst, replica.FollowOptions{Tell: func(s replica.FollowState) { p.states <- s }})
		_ = p.there.Close()
	})
	t.Cleanup(func() {
		cancel()
		p.wg.Wait()
	})
	return p
}

// equal waits until the copy is as its source, and says so.
func (p *pair) equal(t *testing.T, src, dst string) {
	t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case s, open := <-p.states:
			if !open {
				<-p.done
				t.Fatalf("Follow ended: %v", p.ended)
			}
			if s.Phase == replica.Synced && Diff(src, dst) == "" {
				if p := s.Progress; s.SyncedAt.IsZero() || s.Digest == "" || p.Files != p.TotalFiles || p.Bytes != p.TotalBytes || p.Bytes != s.Bytes {
					t.Errorf("the state is %+v", s)
				}
				return
			}
		case <-deadline:
			t.Fatalf("the copy does not follow: %s", Diff(src, dst))
		}
	}
}

// testFollows changes a source that is followed, and the connection.
func testFollows(t *testing.T, s Syncer) {
	src, dst := dirs(t)
	Build(t, src, Tree{"a": F("a"), "dir/b": F("b")})
	p := follow(t, s, src, dst)
	p.equal(t, src, dst)
	Build(t, src, Tree{"a": F("changed"), "new/dir/c": F("c"), "l": {Link: "a"}})
	p.equal(t, src, dst)
	if err := errors.Join(os.RemoveAll(filepath.Join(src, "dir")), os.Rename(filepath.Join(src, "new"), filepath.Join(src, "old"))); err != nil {
		t.Fatal(err)
	}
	p.equal(t, src, dst)
	_ = p.here.Close()
	<-p.done
	if p.ended == nil {
		t.Error("Follow returned nil when its connection had ended")
	}
	p.cancel() // Send may notice only when it has something to say
	p.wg.Wait()
	Build(t, src, Tree{"later": F("later")})
	p = follow(t, s, src, dst)
	p.equal(t, src, dst)
	p.cancel()
	p.wg.Wait()
	if !errors.Is(p.ended, context.Canceled) {
		t.Errorf("Follow returned %v when its context had ended", p.ended)
	}
	mustCopy(t, s, src, dst)
}

// testProgress looks at what is told of a copy that has a part already.
func testProgress(t *testing.T, s Syncer) {
	src, dst := dirs(t)
	large := strings.Repeat("0123456789abcdef", 1<<18)
	Build(t, src, Tree{"a": F("a"), "dir/large": F(large), "l": {Link: "a"}})
	mustCopy(t, s, src, dst)
	Build(t, src, Tree{"a": F("a"), "dir/large": F(large), "l": {Link: "a"}, "dir/larger": F(large + "x"), "b": F("b")})
	var told []replica.Progress
	here, there := net.Pipe()
	_, received := copyWith(t.Context(), s, here, there, src, dst, replica.ReceiveOptions{Tell: func(p replica.Progress) { told = append(told, p) }})
	if received.err != nil {
		t.Fatal(received.err)
	}
	files, bytes := 4, 2*int64(len(large))+3
	had := false
	for _, p := range told {
		if p.Files > files || p.Bytes > bytes || p.Step == replica.Receiving && (p.TotalFiles != files || p.TotalBytes != bytes) {
			t.Errorf("of %d files with %d bytes %+v was told", files, bytes, p)
		}
		had = had || p.Step == replica.Receiving && p.Files == 2 && p.Bytes == int64(len(large))+1
	}
	if !had {
		t.Errorf("it was not told what the copy had: %+v", told)
	}
	want := replica.Progress{Step: replica.Verifying, Files: files, TotalFiles: files, Bytes: bytes, TotalBytes: bytes}
	if last := told[len(told)-1]; last != want {
		t.Errorf("the last that was told is %+v, want %+v", last, want)
	}
}
