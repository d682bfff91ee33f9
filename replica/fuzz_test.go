package replica

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// readWriter reads what it is given and forgets what is written.
type readWriter struct {
	io.Reader
	io.Writer
}

// script records what a side of a copy sends.
func script(frames ...func(w *wire) error) []byte {
	var out bytes.Buffer
	w := newWire(readWriter{strings.NewReader(""), &out})
	for _, f := range frames {
		if err := f(w); err != nil {
			panic(err)
		}
	}
	if err := w.flush(); err != nil {
		panic(err)
	}
	return out.Bytes()
}

func frameOf(kind byte, payload ...[]byte) func(w *wire) error {
	return func(w *wire) error { return w.write(kind, payload...) }
}

// sentVolume is what a sender says of a volume with one file, up to done.
func sentVolume(e entry, content string) []byte {
	m := &manifest{entries: []entry{volume, e}}
	d := m.digest()
	return script(
		frameOf(frameHello, []byte(magic), []byte{0, maxVersion}),
		frameOf(frameEntries, appendEntry(appendEntry(nil, volume), e)),
		frameOf(frameManifest, []byte{0, 0, 0, 2}, d[:]),
		frameOf(frameData, []byte(content)),
		frameOf(frameFileEnd, []byte{1}),
		frameOf(frameDone),
		frameOf(frameBye, d[:]),
	)
}

// Whatever is decoded encodes to the same bytes, and what the rules let pass
// stays below the volume.
func FuzzEntries(f *testing.F) {
	f.Add(appendEntry(nil, volume))
	f.Add(appendEntry(appendEntry(nil, volume), file("a", "1")))
	f.Add(appendEntry(appendEntry(nil, volume), entry{path: "l", kind: kindSymlink, target: "../x"}))
	f.Add(appendEntry(appendEntry(nil, volume), entry{path: "../s", kind: kindSpecial}))
	f.Add(appendEntry(appendEntry(appendEntry(nil, volume), owned(file("a", "1"))), entry{path: "b", kind: kindHardLink, target: "a"}))
	f.Add(appendEntry(appendEntry(nil, volume), withXattrs(owned(file("a", "1")), xattrs("user.a", "1"))))
	f.Fuzz(func(t *testing.T, payload []byte) {
		m := &manifest{keeps: keepAll}
		if err := m.addFrame(payload); err != nil {
			if !errors.Is(err, ErrProtocol) {
				t.Errorf("want ErrProtocol, got %v", err)
			}
			return
		}
		var again []byte
		for _, e := range m.entries {
			again = appendEntry(again, e)
			if e.path != "" && !filepath.IsLocal(e.path) {
				t.Errorf("%q is not below the volume", e.path)
			}
		}
		if !bytes.Equal(again, payload) {
			t.Errorf("decoded and encoded again: %x, was %x", again, payload)
		}
	})
}

func FuzzFrames(f *testing.F) {
	f.Add(script(frameOf(frameHello, []byte("x")), frameOf(frameDone)))
	f.Add([]byte{frameError, 0, 0, 0, 3, 1, 'n', 'o'})
	f.Add([]byte{frameData, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, stream []byte) {
		in := bytes.NewReader(stream)
		w := newWire(readWriter{in, io.Discard})
		read := 0
		for {
			_, payload, err := w.read()
			if err != nil {
				return
			}
			if len(payload) > maxFrame {
				t.Fatalf("frame of %d bytes", len(payload))
			}
			if read += 5 + len(payload); read != len(stream)-in.Len() {
				t.Fatalf("%d bytes read for frames of %d", len(stream)-in.Len(), read)
			}
		}
	})
}

// A Receive from anybody touches nothing outside the copy, and changes the
// copy's content only to what was verified.
func FuzzReceive(f *testing.F) {
	f.Add(sentVolume(file("a", "1"), "1"))
	f.Add(sentVolume(file("a", "1"), "2"))
	f.Add(sentVolume(file("out", "1"), "1"))
	f.Add(sentVolume(file("../outside", "1"), "1"))
	f.Add(sentVolume(owned(file("a", "1")), "1"))
	f.Add(sentVolume(withXattrs(file("a", "1"), xattrs("user.a", "1")), "1"))
	f.Add(script(frameOf(frameHello, []byte(magic), []byte{0, maxVersion}), frameOf(frameSame), frameOf(frameDone), frameOf(frameBye, make([]byte, 32))))
	f.Add(sentVolume(entry{path: "a", kind: kindUnread}, ""))
	f.Add(sentVolume(entry{path: "out", kind: kindSymlink, target: "../outside"}, ""))
	f.Fuzz(func(t *testing.T, stream []byte) {
		base := t.TempDir()
		dir := filepath.Join(base, "copy")
		write(t, filepath.Join(base, "outside", "file"), "outside")
		write(t, filepath.Join(dir, "precious"), "precious")
		if err := os.Symlink("../outside", filepath.Join(dir, "out")); err != nil {
			t.Fatal(err)
		}
		_, err := New().Receive(t.Context(), readWriter{bytes.NewReader(stream), io.Discard}, dir, ReceiveOptions{})
		if got, _ := os.ReadFile(filepath.Join(base, "outside", "file")); string(got) != "outside" {
			t.Errorf("the file outside is %q", got)
		}
		for place, want := range map[string]int{base: 2, filepath.Join(base, "outside"): 1} {
			if entries, err := os.ReadDir(place); err != nil || len(entries) != want {
				t.Errorf("%s has %v, %v", place, entries, err)
			}
		}
		got, readErr := os.ReadFile(filepath.Join(dir, "precious"))
		if bytes.Contains(stream, []byte{frameDone, 0, 0, 0, 0}) || err == nil {
			return // it may have been removed by right
		}
		// Without the word that all arrived, it is there, old or wholly new.
		if readErr != nil || string(got) != "precious" && !bytes.Contains(stream, got) {
			t.Errorf("precious is %q, %v", got, readErr)
		}
		_ = os.Chmod(dir, 0o700)
		if left, _ := filepath.Glob(filepath.Join(dir, ".budgie-sync-*")); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	})
}

func FuzzSend(f *testing.F) {
	hello := func(w *wire) error {
		return errors.Join(w.write(frameHello, []byte(magic), []byte{0, minVersion, 0, maxVersion}), w.offer(ability{keeps: keepAll}))
	}
	f.Add(script(hello, frameOf(frameWant, []byte{0, 0, 0, 1}), frameOf(frameWantEnd, []byte{0}), frameOf(frameVerified, make([]byte, 36))))
	f.Add(script(hello, frameOf(frameWant, []byte{0xff, 0, 0, 1})))
	f.Add(script(hello, frameOf(frameError, []byte("\x04no"))))
	f.Add(script(frameOf(frameHello, []byte(magic), []byte{0, minVersion, 0, maxVersion}),
		func(w *wire) error { return w.offer(ability{keeps: keepAll}, make([]byte, 32)...) }, frameOf(frameWantEnd, []byte{0}), frameOf(frameVerified, make([]byte, 36))))
	f.Fuzz(func(t *testing.T, stream []byte) {
		dir := t.TempDir()
		write(t, filepath.Join(dir, "file"), "content")
		_, err := New().Send(t.Context(), readWriter{bytes.NewReader(stream), io.Discard}, dir)
		if err == nil {
			// That takes the digest of a modification time of this moment.
			t.Error("a random receiver verified the volume")
		}
		if got, _ := os.ReadFile(filepath.Join(dir, "file")); string(got) != "content" {
			t.Errorf("the source is %q", got)
		}
	})
}
