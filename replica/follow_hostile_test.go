package replica

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// led plays a sender whose volume has a file, until the follower asks for what
// changes. It returns the manifest that both have then.
func led(w *wire) (*manifest, error) {
	if err := w.welcome(ready); err != nil {
		return nil, err
	}
	a, _, err := w.offered()
	if err != nil {
		return nil, err
	}
	m := &manifest{keeps: a.keeps}
	for _, e := range []entry{volume, file("a", ""), {path: "d", kind: kindDir, mode: 0o755}} {
		if a.keeps&keepOwners != 0 {
			e.owner = a.owner
		}
		if err := m.add(e); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(w.entries(m.entries), w.seal(m, m.digest()), w.flush()); err != nil {
		return nil, err
	}
	for kind := byte(0); kind != frameWantEnd; {
		if kind, _, err = w.read(); err != nil {
			return nil, err
		}
		if kind == frameWant {
			if err := w.write(frameFileEnd, []byte{1}); err != nil {
				return nil, err
			}
		}
	}
	if err := errors.Join(w.write(frameDone), w.flush()); err != nil {
		return nil, err
	}
	if _, err := w.expect(frameVerified, len(digest{})+4); err != nil {
		return nil, err
	}
	d := m.digest()
	if err := errors.Join(w.write(frameBye, d[:]), w.flush()); err != nil {
		return nil, err
	}
	_, err = w.expect(frameNext, 1)
	return m, err
}

// What a source may say to a copy that follows, and what it may not.
func TestHostileChanges(t *testing.T) {
	sum := func(w *wire, n int) error {
		return w.write(frameManifest, binary.BigEndian.AppendUint32(nil, uint32(n)), make([]byte, len(digest{})))
	}
	removed := func(paths ...string) []byte {
		var b []byte
		for _, p := range paths {
			b = appendText(b, p)
		}
		return b
	}
	cases := map[string]struct {
		script func(w *wire, m *manifest) error
		want   error
	}{
		"removes what never was": {func(w *wire, m *manifest) error {
			return errors.Join(w.write(frameRemoved, removed("b")), w.seal(m, m.digest()))
		}, ErrProtocol},
		"removes out of order": {func(w *wire, m *manifest) error {
			return errors.Join(w.write(frameRemoved, removed("d", "a")), sum(w, 1))
		}, ErrProtocol},
		"removes the volume": {func(w *wire, m *manifest) error {
			return errors.Join(w.write(frameRemoved, removed("")), sum(w, 2))
		}, ErrProtocol},
		"removes after entries": {func(w *wire, m *manifest) error {
			return errors.Join(w.entries([]entry{file("b", "")}), w.write(frameRemoved, removed("a")), sum(w, 3))
		}, ErrProtocol},
		"path cut off": {func(w *wire, m *manifest) error {
			return errors.Join(w.write(frameRemoved, []byte{0, 9, 'a'}), sum(w, 3))
		}, ErrProtocol},
		"nothing removed": {func(w *wire, m *manifest) error {
			return errors.Join(w.write(frameRemoved), sum(w, 3))
		}, ErrProtocol},
		"entry outside": {func(w *wire, m *manifest) error {
			return errors.Join(w.entries([]entry{file("../outside/secret", "")}), sum(w, 4))
		}, ErrProtocol},
		"entry in nothing": {func(w *wire, m *manifest) error {
			return errors.Join(w.entries([]entry{file("e/f", "")}), sum(w, 4))
		}, ErrProtocol},
		"directory becomes a link to outside": {func(w *wire, m *manifest) error {
			return errors.Join(w.entries([]entry{{path: "d", kind: kindSymlink, target: "../outside"}, file("d/secret", "")}), sum(w, 4))
		}, ErrProtocol},
		"entries out of order": {func(w *wire, m *manifest) error {
			return errors.Join(w.entries([]entry{file("f", ""), file("e", "")}), sum(w, 5))
		}, ErrProtocol},
		"digest lies": {func(w *wire, m *manifest) error {
			return errors.Join(w.entries([]entry{file("b", "")}), sum(w, 4))
		}, ErrProtocol},
		"endless changes": {func(w *wire, m *manifest) error {
			for {
				if err := w.write(frameRemoved, removed("a")); err != nil {
					return err
				}
			}
		}, ErrProtocol},
		"again": {func(w *wire, m *manifest) error { return w.write(frameAgain) }, ErrProtocol},
		"data":  {func(w *wire, m *manifest) error { return w.write(frameData, []byte("x")) }, ErrProtocol},
		"idle without a word": {func(w *wire, m *manifest) error {
			return w.write(frameIdle)
		}, ErrProtocol},
		"idle in another way": {func(w *wire, m *manifest) error { return w.write(frameIdle, []byte{9}) }, ErrProtocol},
		"idle at length": {func(w *wire, m *manifest) error {
			return w.write(frameIdle, []byte{idleGone}, []byte(strings.Repeat("x", maxErrorText+1)))
		}, ErrProtocol},
		"a failure": {func(w *wire, m *manifest) error {
			return w.write(frameError, []byte{0}, []byte("no\x1b[2J"))
		}, nil},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			base := t.TempDir()
			write(t, filepath.Join(base, "outside", "secret"), "secret")
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			here, there := net.Pipe()
			done := make(chan error, 1)
			go func() {
				defer there.Close()
				w := newWire(there)
				m, err := led(w)
				done <- err
				if err == nil {
					_ = errors.Join(c.script(w, m), w.flush()) // it ends when Follow has had enough
					_, _, _ = w.read()                         // and says so
				}
			}()
			err := New().Follow(ctx, here, filepath.Join(base, "copy"), FollowOptions{})
			_ = here.Close()
			if err := <-done; err != nil {
				t.Fatalf("before the change: %v", err)
			}
			if err == nil || ctx.Err() != nil || c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("want %v, got %v", c.want, err)
			}
			if err != nil && strings.Contains(err.Error(), "\x1b") {
				t.Errorf("the error drives the terminal: %q", err)
			}
			if got, err := os.ReadFile(filepath.Join(base, "outside", "secret")); err != nil || string(got) != "secret" {
				t.Errorf("outside there is %q, %v", got, err)
			}
			if _, err := os.Stat(filepath.Join(base, "copy", "a")); err != nil {
				t.Errorf("the copy lost what it had: %v", err)
			}
		})
	}
}

// A source that has nothing to send, and does not say so, is given up.
func TestSilentSource(t *testing.T) {
	here, there := net.Pipe()
	defer there.Close()
	go func() {
		_, _ = led(newWire(there)) // and then nothing
	}()
	c := New()
	c.silence = 50 * time.Millisecond
	if err := c.Follow(t.Context(), here, filepath.Join(t.TempDir(), "copy"), FollowOptions{}); !errors.Is(err, ErrSilent) {
		t.Errorf("got %v", err)
	}
}

// A receiver that says that it has something else than it was sent is believed as
// far as its digest agrees, and no further.
func TestHostileFollowers(t *testing.T) {
	for name, c := range map[string]struct {
		script func(w *wire, m *manifest) error
		want   error
	}{
		"holds after wanting": {func(w *wire, m *manifest) error {
			return errors.Join(w.write(frameWant, []byte{0, 0, 0, 1}), w.write(frameHold))
		}, ErrProtocol},
		"has another digest": {func(w *wire, m *manifest) error {
			return errors.Join(w.write(frameWantEnd, []byte{1}), w.flush(), errOf(w.read()), w.write(frameVerified, make([]byte, 36)))
		}, ErrVerify},
		"has what was never sent": {func(w *wire, m *manifest) error {
			return errors.Join(w.write(frameWantEnd, []byte{1}), w.flush(), errOf(w.read()), w.write(frameRemoved, appendText(nil, "nothing")),
				w.seal(m, m.digest()))
		}, ErrProtocol},
		"has more than was sent": {func(w *wire, m *manifest) error {
			more := &manifest{entries: append(slices.Clone(m.entries), file("more", ""))}
			d := more.digest()
			return errors.Join(w.write(frameWantEnd, []byte{1}), w.flush(), errOf(w.read()), w.difference(m, more), w.seal(more, d),
				w.write(frameVerified, d[:], make([]byte, 4)))
		}, ErrProtocol},
		"wants in another way": {func(w *wire, m *manifest) error { return w.write(frameWantEnd, []byte{2}) }, ErrProtocol},
		"goes on in another way": {func(w *wire, m *manifest) error {
			d := m.digest()
			return errors.Join(w.write(frameWantEnd, []byte{1}), w.flush(), errOf(w.read()), w.write(frameVerified, d[:], make([]byte, 4)), w.flush(),
				errOf(w.read()), w.write(frameNext, []byte{9}))
		}, ErrProtocol},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, filepath.Join(dir, "file"), "")
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			here, there := net.Pipe()
			done := make(chan struct{})
			go func() {
				defer close(done)
				defer there.Close()
				w := newWire(there)
				r := &receiver{wire: w, copy: &target{}}
				if errors.Join(w.greet(), w.offer(ability{}), r.manifest()) != nil {
					return
				}
				_ = errors.Join(c.script(w, r.m), w.flush(), errOf(w.read())) // Send says what counts
			}()
			_, err := New().Send(ctx, here, dir)
			_ = here.Close()
			<-done
			if !errors.Is(err, c.want) {
				t.Errorf("want %v, got %v", c.want, err)
			}
		})
	}
}

func errOf(_ byte, _ []byte, err error) error { return err }

// A Follow of anybody touches nothing outside the copy and what is kept beside it.
func FuzzFollow(f *testing.F) {
	whole := sentVolume(file("a", "1"), "1")
	f.Add(whole)
	f.Add(append(whole, script(frameOf(frameIdle, []byte{idleSame}), frameOf(frameRemoved, appendText(nil, "a")), frameOf(frameManifest, make([]byte, 36)))...))
	f.Add(append(whole, script(frameOf(frameEntries, appendEntry(nil, file("../outside/file", ""))))...))
	f.Fuzz(func(t *testing.T, stream []byte) {
		base := t.TempDir()
		write(t, filepath.Join(base, "outside", "file"), "outside")
		err := New(Remember(time.Hour, 1<<20)).Follow(t.Context(), readWriter{strings.NewReader(string(stream)), discard{}}, filepath.Join(base, "copy"), FollowOptions{})
		if err == nil {
			t.Error("Follow returned nil")
		}
		if got, _ := os.ReadFile(filepath.Join(base, "outside", "file")); string(got) != "outside" {
			t.Errorf("the file outside is %q", got)
		}
		entries, err := os.ReadDir(base)
		for _, e := range entries {
			switch e.Name() {
			case "outside", "copy", "copy.index", "copy.ours", "copy.kept":
			default:
				err = errors.Join(err, errors.New("made: "+e.Name()))
			}
		}
		if err != nil {
			t.Error(err)
		}
	})
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
