package delta

import (
	"crypto/sha256"
	"io"
	"testing"
)

const benchSize = 64 << 20

// The rolling hash alone, at every byte: nothing is skipped.
func BenchmarkRoll(b *testing.B) {
	_, src := fromSeed(1)
	content := random(src, 1<<20)
	b.SetBytes(int64(len(content)))
	for b.Loop() {
		roll(content, 0, 0)
	}
}

// Finding borders, without the chunks' hashes.
func BenchmarkCut(b *testing.B) {
	_, src := fromSeed(1)
	content := random(src, benchSize)
	b.SetBytes(benchSize)
	for b.Loop() {
		c := newCutter(0)
		for rest := content; len(rest) > 0; {
			n, _ := c.next(rest)
			rest = rest[n:]
		}
	}
}

// What each chunk and the whole file needs besides.
func BenchmarkSHA256(b *testing.B) {
	_, src := fromSeed(1)
	content := random(src, benchSize)
	b.SetBytes(benchSize)
	for b.Loop() {
		sha256.Sum256(content)
	}
}

// The list of a content, without its digest and with it in the same pass.
func BenchmarkBuilder(b *testing.B) {
	_, src := fromSeed(1)
	content := random(src, benchSize)
	build := func(b *testing.B, extra ...io.Writer) {
		builder := NewBuilder(0)
		w := io.MultiWriter(append(extra, builder)...)
		b.SetBytes(benchSize)
		b.ReportAllocs()
		for b.Loop() {
			builder.Reset(0)
			for rest := content; len(rest) > 0; rest = rest[bufferSize:] {
				_, _ = w.Write(rest[:bufferSize])
			}
			if _, err := builder.List(); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.Run("List", func(b *testing.B) { build(b) })
	b.Run("ListAndDigest", func(b *testing.B) { build(b, sha256.New()) })
}

// As many chunks as content of its class has.
func BenchmarkPlan(b *testing.B) {
	_, src := fromSeed(1)
	list := func(n int) *List {
		l := &List{chunks: make([]chunk, n)}
		for i := range l.chunks {
			src.Read(l.chunks[i].hash[:])
			l.chunks[i].length = 8192
			l.size += 8192
		}
		return l
	}
	const n = 131072
	old := list(n)
	changed := func(is func(i int) bool) *List {
		l := &List{size: old.size}
		for i, c := range old.chunks {
			if is(i) {
				src.Read(c.hash[:])
			}
			l.chunks = append(l.chunks, c)
		}
		return l
	}
	reversed := &List{size: old.size}
	for i := range old.chunks {
		reversed.chunks = append(reversed.chunks, old.chunks[n-1-i])
	}
	for _, c := range []struct {
		name string
		next *List
	}{
		{"OneChunkChanged", changed(func(i int) bool { return i == n/2 })},
		{"EveryFifthChanged", changed(func(i int) bool { return i%5 == 0 })},
		{"AllChanged", list(n)},
		{"Reversed", reversed},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Plan(old, c.next)
			}
		})
	}
}
