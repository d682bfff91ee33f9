package replica

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/budgiehq/budgie/replica/internal/delta"
)

// oldBig is what a copy has at "big", and newBig what it is to become.
var oldBig, newBig = func() (old, next []byte) {
	old = bytes.Repeat([]byte("0123456789abcdef"), 8192) // 128 KiB
	return old, slices.Concat(old[:70_000], []byte("new"), old[70_000:])
}()

func copyOps(offsetsAndLengths ...int64) (b []byte) {
	for ; len(offsetsAndLengths) > 0; offsetsAndLengths = offsetsAndLengths[2:] {
		b = delta.AppendOp(b, delta.Op{Kind: delta.Copy, Offset: offsetsAndLengths[0], Length: offsetsAndLengths[1]})
	}
	return b
}

// withBig announces the new file to a copy that has the old one, and reads what
// it wants and says that it has.
func withBig(w *wire) error {
	if err := accept(w); err != nil {
		return err
	}
	m := &manifest{entries: []entry{volume, file("big", string(newBig))}}
	if err := errors.Join(w.entries(m.entries), w.seal(m, m.digest()), w.flush()); err != nil {
		return err
	}
	return errors.Join(expectWant(w), func() error {
		old := file("big", string(oldBig)).digest
		has, err := w.expect(frameHave, possessionSize)
		if err == nil && !bytes.Equal(has, append([]byte{0, 0, 0, 1}, old[:]...)) {
			err = errors.New("it has something else")
		}
		return err
	}(), expectWantEnd(w))
}

func expectWant(w *wire) error {
	_, err := w.expect(frameWant, 4)
	return err
}

func expectWantEnd(w *wire) error {
	_, err := w.expect(frameWantEnd, 1)
	return err
}

// send sends frames, and ends the turn.
func send(w *wire, frames ...func(w *wire) error) error {
	for _, f := range frames {
		if err := f(w); err != nil {
			return err
		}
	}
	return w.flush()
}

// whileRead sends a frame again and again, for as long as somebody reads it.
func whileRead(kind byte, payload []byte) func(w *wire) error {
	return func(w *wire) error {
		for {
			if err := w.write(kind, payload); err != nil {
				return err
			}
		}
	}
}

// A sender's changes can do nothing but make what was announced.
func TestHostileDeltas(t *testing.T) {
	size := int64(len(oldBig))
	end := frameOf(frameFileEnd, []byte{1})
	data := func(n int) func(w *wire) error { return frameOf(frameData, make([]byte, n)) }
	frames := func(f ...func(w *wire) error) func(w *wire) error {
		return func(w *wire) error { return send(w, f...) }
	}
	for name, c := range map[string]struct {
		script func(w *wire) error
		want   error
	}{
		"nothing to copy":        {frames(frameOf(frameCopy), end), ErrProtocol},
		"beyond the old file":    {frames(frameOf(frameCopy, copyOps(1, size)), end), ErrProtocol},
		"far beyond it":          {frames(frameOf(frameCopy, copyOps(1<<43, 1)), end), ErrProtocol},
		"more than announced":    {frames(frameOf(frameCopy, copyOps(0, size, 0, 4)), end), ErrProtocol},
		"data beyond":            {frames(frameOf(frameCopy, copyOps(0, size)), data(4), end), ErrProtocol},
		"a hole beyond":          {frames(frameOf(frameCopy, copyOps(0, size)), frameOf(frameZeros, []byte{0xff, 0, 0, 0, 0, 0, 0, 0}), end), ErrProtocol},
		"less than announced":    {frames(frameOf(frameCopy, copyOps(0, size)), end), ErrVerify},
		"cut off":                {frames(frameOf(frameCopy, copyOps(0, 70_000)[:2]), end), ErrProtocol},
		"a literal to copy":      {frames(frameOf(frameCopy, delta.AppendOp(nil, delta.Op{Kind: delta.Literal, Length: 1})), end), ErrProtocol},
		"tiny ones without end":  {frames(whileRead(frameCopy, copyOps(0, 1))), ErrProtocol},
		"tiny ones in one frame": {frames(frameOf(frameCopy, bytes.Repeat(copyOps(0, 1), 20_000)), end), ErrProtocol},
		"chunks of no class":     {frames(frameOf(frameChunks, []byte{byte(delta.MaxClass) + 1})), ErrProtocol},
		"chunks in the midst":    {frames(data(1), frameOf(frameChunks, []byte{0})), ErrProtocol},
		"chunks without end": {func(w *wire) error {
			for range 2 {
				if err := send(w, frameOf(frameChunks, []byte{0})); err != nil {
					return err
				}
				for {
					if payload, err := w.expect(frameChunkList, -1); err != nil {
						return err
					} else if len(payload) == 0 {
						break
					}
				}
			}
			return nil
		}, ErrProtocol},
		"changes of what should be whole": {func(w *wire) error {
			wrong := frameOf(frameCopy, copyOps(0, size, 5, 3))
			return errors.Join(send(w, wrong, end), expectWant(w), expectWantEnd(w), send(w, wrong, end))
		}, ErrProtocol},
		"wrong, and wrong again": {func(w *wire) error {
			return errors.Join(send(w, frameOf(frameCopy, copyOps(0, size, 5, 3)), end), expectWant(w), expectWantEnd(w),
				send(w, data(1<<16), data(1<<16), data(3), end))
		}, ErrVerify},
	} {
		t.Run(name, func(t *testing.T) {
			dst := filepath.Join(t.TempDir(), "copy")
			write(t, filepath.Join(dst, "big"), string(oldBig))
			err := receiveFrom(t, dst, func(w *wire) error {
				if err := withBig(w); err != nil {
					t.Errorf("before: %v", err)
				}
				return c.script(w)
			})
			if !errors.Is(err, c.want) {
				t.Errorf("want %v, got %v", c.want, err)
			}
			if got, err := os.ReadFile(filepath.Join(dst, "big")); err != nil || !bytes.Equal(got, oldBig) {
				t.Errorf("the file has %d bytes, %v", len(got), err)
			}
			if left, _ := os.ReadDir(dst); len(left) != 1 {
				t.Errorf("left: %v", left)
			}
		})
	}
}

// receiveFrom runs a Receive against a sender that does what script says.
func receiveFrom(t *testing.T, dst string, script func(w *wire) error) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	here, there := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer here.Close()
		_ = script(newWire(here)) // it ends when Receive has had enough
	}()
	_, err := New().Receive(ctx, there, dst, ReceiveOptions{})
	_ = there.Close()
	<-done
	if ctx.Err() != nil {
		t.Fatal("Receive hung")
	}
	return err
}

// What a receiver says that it has is not believed either.
func TestHostileReceiversOfDeltas(t *testing.T) {
	has := func(index uint32, d digest) []byte { return append(binary.BigEndian.AppendUint32(nil, index), d[:]...) }
	old := file("big", string(oldBig)).digest
	want, wantEnd := frameOf(frameWant, []byte{0, 0, 0, 1}), frameOf(frameWantEnd, []byte{0})
	// asked says that it has what the sender does not know, and is asked for a list.
	asked := func(answer ...func(w *wire) error) func(w *wire) error {
		return func(w *wire) error {
			err := send(w, want, frameOf(frameHave, has(1, digest{1})), wantEnd)
			if _, err := w.expect(frameChunks, 1); err != nil {
				t.Errorf("the sender did not ask: %v", err)
			}
			return errors.Join(err, send(w, answer...))
		}
	}
	frames := func(f ...func(w *wire) error) func(w *wire) error {
		return func(w *wire) error { return send(w, f...) }
	}
	// again gets changes, and then goes on.
	again := func(then ...func(w *wire) error) func(w *wire) error {
		return func(w *wire) error {
			err := send(w, want, frameOf(frameHave, has(1, old)), wantEnd)
			for err == nil {
				var kind byte
				if kind, _, err = w.read(); kind == frameFileEnd {
					return errors.Join(err, send(w, then...))
				}
			}
			return err
		}
	}
	for name, script := range map[string]func(w *wire) error{
		"for what it does not want": frames(frameOf(frameHave, has(1, old)), wantEnd),
		"for what is not there":     frames(want, frameOf(frameHave, has(9, old)), wantEnd),
		"twice":                     frames(want, frameOf(frameHave, has(1, old), has(1, old)), wantEnd),
		"nothing":                   frames(want, frameOf(frameHave), wantEnd),
		"half a digest":             frames(want, frameOf(frameHave, has(1, old)[:20]), wantEnd),
		"and wants more":            frames(want, frameOf(frameHave, has(1, old)), frameOf(frameWant, []byte{0, 0, 0, 2}), wantEnd),
		"a list that is none":       asked(frameOf(frameChunkList, []byte("no list")), frameOf(frameChunkList)),
		"a list without end":        asked(whileRead(frameChunkList, make([]byte, maxFrame))),
		"something else":            asked(frameOf(frameDone)),
		"again, and has":            again(want, frameOf(frameHave, has(1, old)), wantEnd),
		"again, and holds":          again(frameOf(frameHold)),
		"again, and follows":        again(frameOf(frameWantEnd, []byte{1})),
	} {
		t.Run(name, func(t *testing.T) {
			if err := sendTo(t, script); !errors.Is(err, ErrProtocol) {
				t.Errorf("want ErrProtocol, got %v", err)
			}
		})
	}
}

// sendTo sends a volume with a large file, whose earlier content the sender knows
// too, to a receiver that does what script says after it got the manifest.
func sendTo(t *testing.T, script func(w *wire) error) error {
	t.Helper()
	dir := t.TempDir()
	content := slices.Repeat(newBig, 9)
	write(t, filepath.Join(dir, "big"), string(content))
	c := New()
	b := delta.NewBuilder(0)
	_, _ = b.Write(content[:1<<20])
	list, err := b.List()
	if err != nil {
		t.Fatal(err)
	}
	c.lists.Put(delta.Digest(file("big", string(oldBig)).digest), list)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	here, there := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer there.Close()
		w := newWire(there)
		if err := errors.Join(w.greet(), w.offer(ability{keeps: keepAll})); err != nil {
			t.Error(err)
			return
		}
		for {
			if kind, _, err := w.read(); err != nil || kind == frameManifest {
				break
			}
		}
		_ = script(w) // it ends when Send has had enough
		_, _, _ = w.read()
	}()
	_, err = c.Send(ctx, here, dir)
	_ = here.Close()
	<-done
	if ctx.Err() != nil {
		t.Fatal("Send hung")
	}
	return err
}

// Whatever is sent as changes of a file, it stays or becomes what was announced.
func FuzzChanges(f *testing.F) {
	end := frameOf(frameFileEnd, []byte{1})
	right := []func(w *wire) error{frameOf(frameCopy, copyOps(0, 70_000)), frameOf(frameData, []byte("new")), frameOf(frameCopy, copyOps(70_000, int64(len(oldBig))-70_000))}
	f.Add(script(append(right, end, frameOf(frameDone), frameOf(frameBye, make([]byte, 32)))...))
	f.Add(script(append([]func(w *wire) error{frameOf(frameChunks, []byte{0})}, append(right, end, frameOf(frameDone))...)...))
	f.Add(script(frameOf(frameCopy, copyOps(0, 70_000, 0, 1)), frameOf(frameZeros, make([]byte, 8)), end))
	f.Add(script(frameOf(frameCopy, copyOps(0, 9)), frameOf(frameFileEnd, []byte{0}), frameOf(frameAgain)))
	m := &manifest{entries: []entry{volume, file("big", string(newBig))}}
	before := script(
		frameOf(frameHello, []byte(magic), []byte{0, maxVersion}),
		func(w *wire) error { return errors.Join(w.entries(m.entries), w.seal(m, m.digest())) },
	)
	f.Fuzz(func(t *testing.T, stream []byte) {
		dir := filepath.Join(t.TempDir(), "copy")
		write(t, filepath.Join(dir, "big"), string(oldBig))
		_, err := New().Receive(t.Context(), readWriter{io.MultiReader(bytes.NewReader(before), bytes.NewReader(stream)), io.Discard}, dir, ReceiveOptions{})
		got, readErr := os.ReadFile(filepath.Join(dir, "big"))
		if bytes.Contains(stream, []byte{frameDone, 0, 0, 0, 0}) && errors.Is(readErr, os.ErrNotExist) {
			return // another manifest may have said so
		}
		if readErr != nil || !bytes.Equal(got, oldBig) && !bytes.Equal(got, newBig) && !bytes.Contains(stream, got) {
			t.Errorf("the file has %d bytes, %v; Receive: %v", len(got), readErr, err)
		}
		if left, _ := filepath.Glob(filepath.Join(dir, ".budgie-sync-*")); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	})
}

// Whatever a receiver says that it has, and lists, Send survives it.
func FuzzHave(f *testing.F) {
	greeting := script(func(w *wire) error {
		return errors.Join(w.write(frameHello, []byte(magic), []byte{0, minVersion, 0, maxVersion}), w.offer(ability{keeps: keepAll}))
	}, frameOf(frameWant, []byte{0, 0, 0, 1}))
	b := delta.NewBuilder(0)
	_, _ = b.Write([]byte("begin"))
	b.Zeros(askFrom)
	list, err := b.List()
	if err != nil {
		f.Fatal(err)
	}
	has := frameOf(frameHave, []byte{0, 0, 0, 1}, make([]byte, 32))
	f.Add(script(has, frameOf(frameWantEnd, []byte{0}), frameOf(frameChunkList, list.Append(nil)), frameOf(frameChunkList), frameOf(frameWantEnd, []byte{0})))
	f.Add(script(has, frameOf(frameWantEnd, []byte{0}), frameOf(frameChunkList), frameOf(frameVerified, make([]byte, 36))))
	f.Add(script(has, has))
	dir := f.TempDir()
	// Nearly all of it is a hole, which takes no time.
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "big"), []byte("begin"), 0o644), os.Truncate(filepath.Join(dir, "big"), askFrom)); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, stream []byte) {
		c := New()
		if _, err := c.Send(t.Context(), readWriter{io.MultiReader(bytes.NewReader(greeting), bytes.NewReader(stream)), io.Discard}, dir); err == nil {
			t.Error("a random receiver verified the volume")
		}
		if c.lists.Get(delta.Digest{}) != nil {
			t.Error("what a receiver says is told to others")
		}
	})
}

// Files that are too small for it cost no lists, and nobody says what it has for
// them; and lists are dropped when there are too many.
func TestListsAreFewAndBounded(t *testing.T) {
	src, dst := t.TempDir(), filepath.Join(t.TempDir(), "copy")
	c := New()
	for i := range 20 {
		write(t, filepath.Join(src, "small", string(rune('a'+i))), string(oldBig[:deltaFrom-1]))
	}
	if err := errors.Join(copyBetween(t, c, src, dst)); err != nil {
		t.Fatal(err)
	}
	if n := c.lists.Used(); n != 0 {
		t.Errorf("the lists of small files take %d bytes", n)
	}
	c.lists = delta.NewMemory(10_000)
	for i := range 20 {
		write(t, filepath.Join(src, "large", string(rune('a'+i))), string(oldBig)+string(rune('a'+i)))
	}
	if err := errors.Join(copyBetween(t, c, src, dst)); err != nil {
		t.Fatal(err)
	}
	if n := c.lists.Used(); n == 0 || n > 10_000 {
		t.Errorf("the lists take %d bytes", n)
	}
}
