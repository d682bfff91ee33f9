package replica

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// sendAsNobody makes a copy of a source that is read by a user who may not read all
// of it, and returns the reports of both sides.
func sendAsNobody(t *testing.T, c *Copier, src, dst string) (sent, received Report, err error) {
	t.Helper()
	here, there := net.Pipe()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for ever: it is another user's
		if os.Geteuid() == 0 {
			_ = unix.Setfsuid(65534) // whether it worked shows
		}
		var err error
		sent, err = New().Send(t.Context(), here, src)
		_ = here.Close()
		done <- err
	}()
	received, err = c.Receive(t.Context(), there, dst, ReceiveOptions{})
	_ = there.Close()
	return sent, received, errors.Join(err, <-done)
}

// copyAsNobody is sendAsNobody to a Copier that remembers.
func copyAsNobody(t *testing.T, src, dst string) (sent, received Report) {
	t.Helper()
	sent, received, err := sendAsNobody(t, New(Remember(time.Hour, 1<<20)), src, dst)
	if err != nil {
		t.Fatal(err)
	}
	return sent, received
}

// What the source's user cannot read does not stop the rest, and the copy keeps what
// it has of that, until it can be read again or is gone.
func TestUnreadableFilesStay(t *testing.T) {
	src, dst := t.TempDir(), filepath.Join(t.TempDir(), "copy")
	for name, text := range map[string]string{"f": "1", "secret": "1", "dir/x": "1", "dir/y": "1", "gone": "1"} {
		write(t, filepath.Join(src, name), text)
	}
	chmod := func(mode os.FileMode) {
		t.Helper()
		for _, name := range []string{"dir", "secret"} {
			if err := os.Chmod(filepath.Join(src, name), mode); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Cleanup(func() { chmod(0o755) })
	want := func(when string, files map[string]string) {
		t.Helper()
		for name, text := range files {
			got, err := os.ReadFile(filepath.Join(dst, name))
			if text == "" && !os.IsNotExist(err) || text != "" && (err != nil || string(got) != text) {
				t.Errorf("%s: %s is %q, %v, want %q", when, name, got, err, text)
			}
		}
	}
	for _, dir := range []string{filepath.Dir(src), src, filepath.Join(src, "dir")} {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"f", "gone", "dir/x", "dir/y", "secret"} {
		if err := os.Chmod(filepath.Join(src, name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if sent, _ := copyAsNobody(t, src, dst); len(sent.Skipped) > 0 {
		t.Fatalf("when all can be read it skips %q", sent.Skipped)
	}

	chmod(0)
	write(t, filepath.Join(src, "f"), "2")
	if err := os.Remove(filepath.Join(src, "gone")); err != nil {
		t.Fatal(err)
	}
	older := New()
	older.highest = version3 - 1
	if _, _, err := sendAsNobody(t, older, src, dst); err == nil || !strings.Contains(err.Error(), "cannot read 2 of its files") {
		t.Errorf("a receiver that is too old for that: %v", err)
	}
	for range 2 { // also where the copy was complete like that already
		sent, received := copyAsNobody(t, src, dst)
		for _, r := range []Report{sent, received} {
			if !slices.Equal(r.Skipped, []string{"dir", "secret"}) || len(r.Conflicts) > 0 {
				t.Errorf("it reports %+v", r)
			}
		}
		want("unreadable", map[string]string{"f": "2", "secret": "1", "dir/x": "1", "dir/y": "1", "gone": ""})
	}

	chmod(0o755)
	write(t, filepath.Join(src, "dir", "x"), "2")
	if err := os.Remove(filepath.Join(src, "secret")); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(src, "secret2"), "")
	if err := os.Rename(filepath.Join(src, "secret2"), filepath.Join(src, "secret")); err != nil {
		t.Fatal(err)
	}
	chmod(0o755)
	write(t, filepath.Join(dst, "dir", "mine"), "mine")
	sent, received := copyAsNobody(t, src, dst)
	if len(sent.Skipped) > 0 {
		t.Errorf("when all can be read again it skips %q", sent.Skipped)
	}
	if len(received.Conflicts) != 1 || received.Conflicts[0].Path != "dir/mine" {
		t.Errorf("beside what was written into the copy there are conflicts: %+v", received.Conflicts)
	}
	want("readable again", map[string]string{"f": "2", "dir/x": "2", "dir/y": "1", "dir/mine": ""})
	if err := os.RemoveAll(filepath.Join(src, "dir")); err != nil {
		t.Fatal(err)
	}
	copyAsNobody(t, src, dst)
	want("removed", map[string]string{"dir/x": "", "dir/y": ""})
	write(t, filepath.Join(src, "dir"), "") // for the cleanup
}

// What comes back empty, after it could not be read, is a loss as any other.
func TestUnreadableFilesCountAsLost(t *testing.T) {
	all := []entry{file("dir/1", "1"), file("dir/2", "2"), file("dir/3", "3"), file("f", "f")}
	local := newPlaces(len(all))
	unseen := make(map[string]entry)
	for _, e := range all {
		local.put(e.path, found{entry: e, hashed: true})
		if parent(e.path) != "" {
			unseen[e.path] = e
		}
	}
	r := &receiver{
		base:      &manifest{entries: []entry{volume, {path: "dir", kind: kindUnread}, all[3]}},
		m:         &manifest{entries: []entry{volume, {path: "dir", kind: kindDir}, all[3]}},
		unseen:    unseen,
		following: &following{maxLoss: 0.5},
		copy:      &target{local: local},
	}
	if err := r.hold(); !errors.Is(err, ErrLoss) {
		t.Errorf("hold: %v", err)
	}
	r.unseen = nil
	if err := r.hold(); err != nil {
		t.Errorf("where nothing had been there: %v", err)
	}
}

// A follower says what is missing, as long as it is.
func TestUnreadableFilesAreReported(t *testing.T) {
	var state FollowState
	m := &manifest{entries: []entry{volume, {path: "secret", kind: kindUnread}}}
	r := &receiver{base: m, following: &following{FollowOptions: FollowOptions{Tell: func(s FollowState) { state = s }}}}
	r.synced()
	if state.Phase != Synced || !strings.Contains(state.Reason, `"secret"`) {
		t.Errorf("it tells %+v", state)
	}
	r.base = &manifest{entries: []entry{volume}}
	r.synced()
	if state.Reason != "" {
		t.Errorf("when all can be read it tells %+v", state)
	}
}
