//go:build unix

package delta

import (
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"
)

// BenchmarkWays compares the two ways to learn what a receiver lacks, and
// prints rows for the table in docs/sync-protocol.md:
//
//	go test -run '^$' -bench Ways -benchtime 1x ./replica/internal/delta
//
// rsync's way is the one in ways_rsync_test.go. Both ways end alike: the
// receiver puts the content together and hashes it, and writes it nowhere. It
// takes 2 GiB below the directory for temporary files.
func BenchmarkWays(b *testing.B) {
	type change struct {
		name string
		make func(r *rand.Rand, src io.Reader, old, next *os.File, size int64) error
	}
	changes := []change{
		{"1 byte changed", func(_ *rand.Rand, _ io.Reader, old, next *os.File, size int64) error {
			return splice(next, old, size, size/2, 1, []byte{'x'})
		}},
		{"100 bytes inserted", func(_ *rand.Rand, src io.Reader, old, next *os.File, size int64) error {
			return splice(next, old, size, size/2, 0, random(src, 100))
		}},
		{"20 % of 64 KiB blocks rewritten", rewrite(64 << 10)},
		{"20 % of 4 KiB blocks rewritten", rewrite(4 << 10)},
	}
	fmt.Println("| file | change | way | sender reads | sender CPU | receiver reads | receiver CPU | to the receiver | to the sender |")
	fmt.Println("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
	for _, file := range []struct {
		name string
		size int64
	}{{"1 GiB", 1 << 30}, {"64 MiB", 64 << 20}} {
		r, src := fromSeed(uint64(file.size))
		dir := b.TempDir()
		old := create(b, filepath.Join(dir, "old"))
		if _, err := io.CopyN(old, src, file.size); err != nil {
			b.Fatal(err)
		}
		for _, c := range changes {
			next := create(b, filepath.Join(dir, "next"))
			if err := c.make(r, src, old, next, file.size); err != nil {
				b.Fatal(err)
			}
			for _, way := range []struct {
				name string
				run  func(tb testing.TB, old, next *counted) (sender, receiver side)
			}{{"rsync's", rsyncWay}, {"remembered", rememberedWay}} {
				b.Run(fmt.Sprintf("%s/%s/%s", file.name, c.name, way.name), func(b *testing.B) {
					var s, r side
					for b.Loop() {
						s, r = way.run(b, count(b, old), count(b, next))
					}
					fmt.Printf("\n| %s | %s | %s | %s | %s | %s | %s | %s | %s |\n", file.name, c.name, way.name,
						mib(s.read), seconds(s.cpu), mib(r.read), seconds(r.cpu), grouped(s.sent), grouped(r.sent))
				})
			}
		}
	}
}

// side is what one side of a transfer cost.
type side struct {
	read, sent int64
	cpu        time.Duration
}

// counted counts what is read of a file.
type counted struct {
	file *os.File
	size int64
	read int64
}

func (c *counted) ReadAt(p []byte, offset int64) (int, error) {
	n, err := c.file.ReadAt(p, offset)
	c.read += int64(n)
	return n, err
}

// all reads the file from its beginning to its end.
func (c *counted) all() *io.SectionReader { return io.NewSectionReader(c, 0, c.size) }

func count(tb testing.TB, f *os.File) *counted {
	info, err := f.Stat()
	if err != nil {
		tb.Fatal(err)
	}
	return &counted{file: f, size: info.Size()}
}

// cpuOf returns the processor time that f takes, in the program and in the
// system.
func cpuOf(tb testing.TB, f func() error) time.Duration {
	tb.Helper()
	used := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			tb.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	runtime.GC() // what came before is not to be paid for here
	before := used()
	if err := f(); err != nil {
		tb.Fatal(err)
	}
	return used() - before
}

// rememberedWay: the receiver names what it has, and the sender, which has the
// list of that, makes the plan while it reads the new content.
func rememberedWay(tb testing.TB, old, next *counted) (sender, receiver side) {
	memory := NewMemory(8 << 20)
	before, err := listOfFile(old, ClassOf(old.size), nil)
	if err != nil {
		tb.Fatal(err)
	}
	var name Digest // the one that stands for the old content
	memory.Put(name, before)
	old.read = 0

	receiver.sent = int64(len(name))
	var ops []Op
	digest := sha256.New()
	sender.cpu = cpuOf(tb, func() error {
		after, err := listOfFile(next, before.Class().Keep(next.size), digest)
		if err != nil {
			return err
		}
		ops = Plan(memory.Get(name), after)
		sender.sent = encodedSize(ops) + literalBytes(ops)
		return nil
	})
	sender.read = next.read + literalBytes(ops)
	receiver.cpu = putTogether(tb, old, next, ops, digest.Sum(nil))
	receiver.read = old.read
	return sender, receiver
}

// listOfFile makes a list as a sender does, along with the file's digest.
func listOfFile(f *counted, class Class, digest io.Writer) (*List, error) {
	builder := NewBuilder(class)
	w := io.Writer(builder)
	if digest != nil {
		w = io.MultiWriter(digest, builder)
	}
	if _, err := io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{f.all()}, make([]byte, bufferSize)); err != nil {
		return nil, err
	}
	return builder.List()
}

func encodedSize(ops []Op) int64 {
	var b []byte
	for _, op := range ops {
		b = AppendOp(b, op)
	}
	return int64(len(b))
}

// putTogether does what the receiver does in the end, and checks that it did
// it right. It returns the processor time.
func putTogether(tb testing.TB, old, next *counted, ops []Op, digest []byte) time.Duration {
	h := sha256.New()
	literals := &literalReader{ops: ops, file: next.file}
	cpu := cpuOf(tb, func() error {
		return apply(h, old.all(), next.size, ops, literals)
	})
	if !slices.Equal(h.Sum(nil), digest) {
		tb.Fatal("another content came out")
	}
	return cpu
}

// literalReader reads the literals of operations out of the new file, in place
// of a connection.
type literalReader struct {
	ops  []Op
	file *os.File
	done int64 // of the first literal
}

func (l *literalReader) Read(p []byte) (int, error) {
	for len(l.ops) > 0 && (l.ops[0].Kind != Literal || l.done == l.ops[0].Length) {
		l.ops, l.done = l.ops[1:], 0
	}
	if len(l.ops) == 0 {
		return 0, io.EOF
	}
	n, err := l.file.ReadAt(p[:min(int64(len(p)), l.ops[0].Length-l.done)], l.ops[0].Offset+l.done)
	l.done += int64(n)
	return n, err
}

func create(tb testing.TB, name string) *os.File {
	f, err := os.Create(name)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = f.Close() })
	return f
}

// splice writes old to next, with skipped bytes at a place replaced.
func splice(next, old *os.File, size, at, skipped int64, by []byte) error {
	if _, err := io.Copy(next, io.NewSectionReader(old, 0, at)); err != nil {
		return err
	}
	if _, err := next.Write(by); err != nil {
		return err
	}
	_, err := io.Copy(next, io.NewSectionReader(old, at+skipped, size-at-skipped))
	return err
}

// rewrite fills each fifth block, at random, with other bytes.
func rewrite(block int) func(r *rand.Rand, src io.Reader, old, next *os.File, size int64) error {
	return func(r *rand.Rand, src io.Reader, old, next *os.File, size int64) error {
		buf := make([]byte, block)
		for offset := int64(0); offset < size; offset += int64(block) {
			var err error
			if r.IntN(5) == 0 {
				_, err = io.ReadFull(src, buf)
			} else {
				_, err = old.ReadAt(buf, offset)
			}
			if err != nil {
				return err
			}
			if _, err := next.Write(buf); err != nil {
				return err
			}
		}
		return nil
	}
}

func mib(n int64) string { return fmt.Sprintf("%.0f MiB", float64(n)/(1<<20)) }

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }

// grouped writes a number of bytes with commas.
func grouped(n int64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
