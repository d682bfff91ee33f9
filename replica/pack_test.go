package replica

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
)

// counting counts what is written.
type counting struct {
	io.ReadWriter
	n *atomic.Int64
}

func (c counting) Write(p []byte) (int, error) {
	c.n.Add(int64(len(p)))
	return c.ReadWriter.Write(p)
}

// sentBytes copies src to dst and returns how many bytes the sender sent for it.
func sentBytes(t *testing.T, from, to *Copier, src, dst string) int64 {
	t.Helper()
	here, there := net.Pipe()
	var sent atomic.Int64
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := from.Send(t.Context(), counting{here, &sent}, src); err != nil {
			t.Error(err)
			_ = here.Close()
		}
	})
	_, err := to.Receive(t.Context(), there, dst, ReceiveOptions{})
	_ = there.Close()
	wg.Wait()
	if err != nil {
		t.Fatal(err)
	}
	want, _ := os.ReadFile(filepath.Join(src, "f"))
	if got, err := os.ReadFile(filepath.Join(dst, "f")); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("the copy has something else (%v)", err)
	}
	return sent.Load()
}

// What gets smaller is compressed, unless one of the sides is too old for that, and
// what does not is sent as it is.
func TestCompression(t *testing.T) {
	const size = 900 << 10 // before the connection's speed counts
	text := bytes.Repeat([]byte("all happy families are alike; "), size/30)
	noise := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{4}).Read(noise)
	older := func() *Copier {
		c := New()
		c.highest = version3 - 1
		return c
	}
	for name, c := range map[string]struct {
		content     []byte
		from, to    *Copier
		least, most int64
	}{
		"text":         {text, New(), New(), 0, size / 10},
		"noise":        {noise, New(), New(), size, size + size/100},
		"old sender":   {text, older(), New(), int64(len(text)), size + size/100},
		"old receiver": {text, New(), older(), int64(len(text)), size + size/100},
	} {
		t.Run(name, func(t *testing.T) {
			base := t.TempDir()
			write(t, filepath.Join(base, "src", "f"), string(c.content))
			if n := sentBytes(t, c.from, c.to, filepath.Join(base, "src"), filepath.Join(base, "dst")); n < c.least || n > c.most {
				t.Errorf("%d bytes were sent, want %d to %d", n, c.least, c.most)
			}
		})
	}
}

// Over a connection that is faster than the processors nothing is compressed.
func TestCompressionPays(t *testing.T) {
	p := &packer{written: 10 * measured, writing: 10 * time.Second} // 1 MiB a second
	if !p.pays(1<<16, 1<<15, time.Millisecond) {
		t.Error("it does not pay to save 31 ms for 1 ms")
	}
	if p.pays(1<<16, 1<<15, 30*time.Millisecond) {
		t.Error("it pays to save 31 ms for 30 ms, and half of that on the other side")
	}
	if p.pays(1<<16, 1<<16-1<<12, 0) {
		t.Error("it pays to save a sixteenth")
	}
}

// Trials in vain become rare.
func TestCompressionTrials(t *testing.T) {
	noise := make([]byte, maxFrame)
	_, _ = rand.NewChaCha8([32]byte{5}).Read(noise)
	var p packer
	tried := 0
	for range 1000 {
		if p.skip == 0 {
			tried++
		}
		if _, packed := p.pack(noise); packed {
			t.Fatal("noise got smaller")
		}
	}
	if tried > 24 {
		t.Errorf("%d of 1000 frames were tried", tried)
	}
	p.skip = 0
	if _, packed := p.pack(make([]byte, maxFrame)); !packed || p.misses != 0 {
		t.Error("after them zeros did not get smaller")
	}
}

// bombs are packed payloads that nobody honest sends.
func bombs(t testing.TB) map[string][]byte {
	t.Helper()
	pack := func(p []byte, opts ...zstd.EOption) []byte {
		enc, err := zstd.NewWriter(nil, append(opts, zstd.WithEncoderConcurrency(1))...)
		if err != nil {
			t.Fatal(err)
		}
		return enc.EncodeAll(p, nil)
	}
	// A frame without its size, and a block of one repeated byte: 128 KiB in 4 bytes.
	head, block, last := []byte{0x28, 0xb5, 0x2f, 0xfd, 0, 0x38}, []byte{0x02, 0, 0x10, 'x'}, []byte{0x03, 0, 0x10, 'x'}
	endless := append(head, append(bytes.Repeat(block, 16000), last...)...)
	honest := pack(bytes.Repeat([]byte("x"), maxFrame))
	return map[string][]byte{
		"one byte too much":    pack(bytes.Repeat([]byte("x"), maxFrame+1)),
		"64 MiB":               pack(make([]byte, 64<<20)),
		"a frame without size": endless,
		"says 16 EiB":          {0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0, 0},
		"two frames":           append(bytes.Clone(honest), honest...),
		"nothing":              pack(nil, zstd.WithZeroFrames(true)),
		"skipped":              {0x50, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, 0},
		"cut off":              honest[:len(honest)-1],
		"no frame":             []byte("content"),
	}
}

// Whatever a packed frame unpacks to, it takes no memory but that of one frame.
func TestHostileCompression(t *testing.T) {
	for name, packed := range bombs(t) {
		t.Run(name, func(t *testing.T) {
			var u unpacker
			if _, _, err := u.unpack(append([]byte{frameData}, "\x28\xb5\x2f\xfd\x20\x01\x09\x00\x00x"...)); err != nil {
				t.Fatal(err) // it has what it needs
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, _, err := u.unpack(append([]byte{frameData}, packed...))
			runtime.ReadMemStats(&after)
			if !errors.Is(err, ErrProtocol) {
				t.Errorf("want ErrProtocol, got %v", err)
			}
			if grown := after.TotalAlloc - before.TotalAlloc; grown > 1<<20 {
				t.Errorf("it took %d bytes of memory", grown)
			}
			base, err := against(t, func(w *wire) error {
				if err := announce(w, volume, file("f", "content")); err != nil {
					return err
				}
				return errors.Join(w.write(framePacked, []byte{frameData}, packed), w.write(frameFileEnd, []byte{1}), w.flush())
			})
			if !errors.Is(err, ErrProtocol) {
				t.Errorf("Receive: want ErrProtocol, got %v", err)
			}
			untouched(t, base)
		})
	}
	for name, kind := range map[string]byte{"hello": frameHello, "packed": framePacked, "fileEnd": frameFileEnd, "copy": frameCopy} {
		var u unpacker
		if _, _, err := u.unpack(append([]byte{kind}, bombs(t)["two frames"]...)); !errors.Is(err, ErrProtocol) {
			t.Errorf("packed %s: want ErrProtocol, got %v", name, err)
		}
	}
	// Who did not say that it understands it does not get it, nor take it.
	w := newWire(readWriter{bytes.NewReader(script(frameOf(framePacked, []byte{frameData, 1}))), io.Discard})
	w.version = version3 - 1
	if kind, _, err := w.read(); err != nil || kind != framePacked {
		t.Errorf("in version 2 it reads a frame of type %d, %v", kind, err)
	}
}

func FuzzUnpack(f *testing.F) {
	for _, packed := range bombs(f) {
		f.Add(append([]byte{frameData}, packed...))
	}
	f.Fuzz(func(t *testing.T, packed []byte) {
		var u unpacker
		kind, payload, err := u.unpack(packed)
		switch {
		case err != nil && !errors.Is(err, ErrProtocol):
			t.Errorf("want ErrProtocol, got %v", err)
		case err == nil && (len(payload) == 0 || len(payload) > maxFrame || !packable(kind)):
			t.Errorf("it unpacks to a frame of type %d with %d bytes", kind, len(payload))
		}
	})
}
