//go:build unix

package delta

import (
	"crypto/sha256"
	"io"
	"math"
	"slices"
	"testing"
)

// This is rsync's way (Tridgell and Mackerras, 1996) for BenchmarkWays: the
// receiver reads its old content and sends a weak and a strong sum of each
// block; the sender rolls the weak one over the new content and looks up every
// position. Block sizes are rsync's, about the root of the file's size; the
// strong hash is SHA-256, cut to what rsync sends for these sizes, since here
// it is the fastest that there is. The rest, encoding of operations and putting
// together, is as in the other way.

// signatureSize is what describes one block on the wire.
const signatureSize = 8

type signature struct {
	weak   uint32
	strong [4]byte
}

func blockSize(size int64) int {
	return min(max(int(math.Sqrt(float64(size)))&^7, 700), 128<<10)
}

// weakSum is the weak sum's two halves.
type weakSum struct{ a, b uint32 }

func (w weakSum) sum() uint32 { return w.a&0xffff | w.b<<16 }

func weakOf(p []byte) (w weakSum) {
	for _, c := range p {
		w.a += uint32(c)
		w.b += w.a
	}
	return w
}

// roll moves the sum of n bytes by one.
func (w *weakSum) roll(n int, out, in byte) {
	w.a += uint32(in) - uint32(out)
	w.b += w.a - uint32(n)*uint32(out)
}

func strongOf(p []byte) [4]byte {
	sum := sha256.Sum256(p)
	return [4]byte(sum[:])
}

func sign(old *counted, block int) ([]signature, error) {
	var signatures []signature
	// Whole blocks only: a shorter one at the end would be sent as literal.
	buf := make([]byte, max(1, bufferSize/block)*block)
	in := old.all()
	for {
		n, err := io.ReadFull(in, buf)
		for p := buf[:n]; len(p) >= block; p = p[block:] {
			signatures = append(signatures, signature{weakOf(p[:block]).sum(), strongOf(p[:block])})
		}
		if err != nil {
			return signatures, ignoreEOF(err)
		}
	}
}

func ignoreEOF(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return nil
	}
	return err
}

// filterBits is for a filter that few positions pass by chance, of 32768 blocks.
const filterBits = 20

func filter(weak uint32) uint32 { return weak * 0x9e3779b1 >> (32 - filterBits) }

// roller is the sender's part.
type roller struct {
	block      int
	signatures []signature
	// first is a filter by the weak sum, byWeak has the blocks.
	first  [1 << filterBits]bool
	byWeak map[uint32][]int32
	plan   planner
	next   int // block that follows the last match
}

func newRoller(signatures []signature, block int) *roller {
	r := &roller{block: block, signatures: signatures, byWeak: make(map[uint32][]int32, len(signatures)), next: -1}
	for i, s := range signatures {
		r.first[filter(s.weak)] = true
		r.byWeak[s.weak] = append(r.byWeak[s.weak], int32(i))
	}
	return r
}

// match returns the block that p is, or -1.
func (r *roller) match(weak uint32, p []byte) int {
	if !r.first[filter(weak)] {
		return -1
	}
	candidates := r.byWeak[weak]
	if len(candidates) == 0 {
		return -1
	}
	strong := strongOf(p)
	if r.next >= 0 && r.next < len(r.signatures) && r.signatures[r.next] == (signature{weak, strong}) {
		return r.next
	}
	for _, i := range candidates {
		if r.signatures[i].strong == strong {
			return int(i)
		}
	}
	return -1
}

// scan rolls over p and plans it up to where less than a block is left, which
// it returns the length of.
func (r *roller) scan(p []byte) (left int) {
	from, at := 0, 0 // literal bytes are from there on
	if len(p) < r.block {
		return len(p)
	}
	w := weakOf(p[:r.block])
	for {
		if i := r.match(w.sum(), p[at:at+r.block]); i >= 0 {
			r.plan.literal(r.plan.at, int64(at-from))
			r.plan.copy(int64(i)*int64(r.block), int64(r.block))
			r.next = i + 1
			at += r.block
			from = at
			if at+r.block > len(p) {
				break
			}
			w = weakOf(p[at : at+r.block])
			continue
		}
		if at+r.block == len(p) {
			break
		}
		w.roll(r.block, p[at], p[at+r.block])
		at++
	}
	r.plan.literal(r.plan.at, int64(at-from))
	return len(p) - at
}

func (r *roller) run(next *counted, digest io.Writer) ([]Op, error) {
	buf := make([]byte, 8*bufferSize+r.block)
	in := next.all()
	left := 0
	for {
		n, err := io.ReadFull(in, buf[left:])
		_, _ = digest.Write(buf[left : left+n])
		p := buf[:left+n]
		left = r.scan(p)
		copy(buf, p[len(p)-left:])
		if err != nil {
			r.plan.literal(r.plan.at, int64(left))
			return r.plan.ops, ignoreEOF(err)
		}
	}
}

func rsyncWay(tb testing.TB, old, next *counted) (sender, receiver side) {
	var signatures []signature
	block := blockSize(old.size)
	receiver.cpu = cpuOf(tb, func() (err error) {
		signatures, err = sign(old, block)
		return err
	})
	receiver.sent = int64(len(signatures)) * signatureSize
	var ops []Op
	digest := sha256.New()
	sender.cpu = cpuOf(tb, func() (err error) {
		// Favourable to it: the digest comes out of the same pass.
		ops, err = newRoller(signatures, block).run(next, digest)
		sender.sent = encodedSize(ops) + literalBytes(ops)
		return err
	})
	sender.read = next.read
	receiver.cpu += putTogether(tb, old, next, ops, digest.Sum(nil))
	receiver.read = old.read
	return sender, receiver
}

// Its plans are right, so that it is compared with something that works.
func TestRsyncWay(t *testing.T) {
	r, src := seeded(t)
	dir := t.TempDir()
	content := random(src, 3<<20)
	for _, e := range edits {
		old, next := create(t, dir+"/old"), create(t, dir+"/next")
		was := content[:r.IntN(len(content))]
		is := e.apply(r, src, slices.Clone(was))
		for f, b := range map[io.Writer][]byte{old: was, next: is} {
			if _, err := f.Write(b); err != nil {
				t.Fatal(err)
			}
		}
		s, _ := rsyncWay(t, count(t, old), count(t, next)) // it compares digests
		if e.name == "insert a byte" && s.sent > int64(3*blockSize(int64(len(was)))) {
			t.Errorf("%d bytes sent for a byte inserted in %d", s.sent, len(was))
		}
	}
}
