package replica_test

import (
	"bytes"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/budgiehq/budgie/replica"
	"github.com/budgiehq/budgie/replica/replicatest"
)

// metered counts the bytes of a connection, in both directions.
type metered struct {
	net.Conn
	in, out *atomic.Int64
}

func (m metered) Read(p []byte) (int, error) {
	n, err := m.Conn.Read(p)
	m.in.Add(int64(n))
	return n, err
}

func (m metered) Write(p []byte) (int, error) {
	n, err := m.Conn.Write(p)
	m.out.Add(int64(n))
	return n, err
}

// randomBytes returns content without repetitions, and a source of numbers. The
// test's output names their seed.
func randomBytes(t *testing.T, n int) ([]byte, *rand.Rand) {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	var key [32]byte
	for i := range 8 {
		key[i] = byte(seed >> (8 * i))
	}
	src := rand.NewChaCha8(key)
	b := make([]byte, n)
	_, _ = src.Read(b)
	return b, rand.New(src)
}

// few is more than a change in one place costs: three chunks at most, and each has
// at most 32 KiB.
const few = 100 << 10

func TestSmallChangesOfALargeFileCostLittle(t *testing.T) {
	t.Parallel() // it computes most of the time
	content, _ := randomBytes(t, 64<<20)
	l := newLink(t, replicatest.Tree{"small": replicatest.F("x")})
	big := filepath.Join(l.src, "big")
	must(t, os.WriteFile(big, content, 0o644))
	var in, out atomic.Int64
	l.wrap = func(c net.Conn) net.Conn { return metered{c, &in, &out} }
	l.start(t)
	l.equal(t)
	if n := in.Load(); n < 64<<20 {
		t.Fatalf("the first copy took %d bytes", n)
	}
	for _, c := range []struct {
		what   string
		change func()
	}{
		{"a byte changed", func() {
			content[40<<20]++
			f, err := os.OpenFile(big, os.O_WRONLY, 0)
			must(t, err)
			_, err = f.WriteAt(content[40<<20:40<<20+1], 40<<20)
			must(t, err, f.Close())
		}},
		{"100 bytes inserted", func() {
			content = slices.Insert(content, 20<<20, bytes.Repeat([]byte("inserted"), 13)[:100]...)
			must(t, os.WriteFile(l.src+".new", content, 0o644), os.Rename(l.src+".new", big))
		}},
	} {
		in.Store(0)
		out.Store(0)
		c.change()
		s := l.equal(t)
		// What keeps the connection alive in the meantime costs a few bytes, too.
		if in.Load() > few || out.Load() > few {
			t.Errorf("%s: %d bytes to the copy, %d back", c.what, in.Load(), out.Load())
		}
		if s.PendingBytes != 0 || s.PendingFiles != 0 {
			t.Errorf("%s: %d bytes in %d files are pending in the end", c.what, s.PendingBytes, s.PendingFiles)
		}
	}
}

// A copy that is made again and again gets changes, too, also from a sender that
// does not know what it has.
func TestChangesOfACopyMadeOnce(t *testing.T) {
	const size = 4 << 20
	for _, c := range []struct {
		name   string
		size   int
		forget bool
		most   int64
	}{
		{"known", size, false, few},
		{"small and known", 200_000, false, few},
		{"forgotten", size, true, few},
		{"small and forgotten", 200_000, true, 201_000},
		{"too small", 60_000, false, 60_100},
	} {
		t.Run(c.name, func(t *testing.T) {
			content, random := randomBytes(t, c.size)
			src, dst := filepath.Join(t.TempDir(), "src"), filepath.Join(t.TempDir(), "dst")
			replicatest.Build(t, src, replicatest.Tree{"f": replicatest.F(string(content)), "other": replicatest.F("other")})
			from := replica.New()
			_, _, err := replicatest.Copy(t.Context(), from, src, dst)
			must(t, err)
			content = slices.Insert(content, random.IntN(len(content)), []byte("something")...)
			must(t, os.WriteFile(filepath.Join(src, "f"), content, 0o644))
			if c.forget {
				from = replica.New()
			}
			sent, received, err := replicatest.Copy(t.Context(), from, src, dst)
			must(t, err)
			if diff := replicatest.Diff(src, dst); diff != "" {
				t.Error(diff)
			}
			if sent.Transferred != received.Transferred || sent.Transferred > c.most || sent.Transferred == 0 {
				t.Errorf("%d bytes were sent, %d received, of %d", sent.Transferred, received.Transferred, len(content))
			}
		})
	}
}

// tampering changes the copy at the moment at which the receiver says what it has.
type tampering struct {
	net.Conn
	do *func()
}

func (c tampering) Write(p []byte) (int, error) {
	const want = 5 // see docs/sync-protocol.md
	if len(p) > 0 && p[0] == want && *c.do != nil {
		(*c.do)()
		*c.do = nil
	}
	return c.Conn.Write(p)
}

// Whatever happens to what a file's changes are for, the copy gets right, and at
// once.
func TestChangesOfWhatIsNotThere(t *testing.T) {
	content, _ := randomBytes(t, 2<<20)
	after := slices.Concat(content[:1<<20], []byte("inserted"), content[1<<20:])
	for name, do := range map[string]func(t *testing.T, f string){
		"changed": func(t *testing.T, f string) {
			h, err := os.OpenFile(f, os.O_WRONLY, 0)
			must(t, err)
			_, err = h.WriteAt([]byte("changed"), 1000)
			must(t, err, h.Close())
		},
		"longer": func(t *testing.T, f string) {
			must(t, os.WriteFile(f, slices.Concat([]byte("longer"), content), 0o644))
		},
		"shorter": func(t *testing.T, f string) { must(t, os.Truncate(f, 1000)) },
		"gone":    func(t *testing.T, f string) { must(t, os.Remove(f)) },
		"another file": func(t *testing.T, f string) {
			must(t, os.Remove(f), os.WriteFile(f, []byte("another"), 0o600))
		},
		"a link": func(t *testing.T, f string) { must(t, os.Remove(f), os.Symlink("/dev/zero", f)) },
	} {
		for _, forget := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				src, dst := filepath.Join(t.TempDir(), "src"), filepath.Join(t.TempDir(), "dst")
				replicatest.Build(t, src, replicatest.Tree{"f": replicatest.F(string(content)), "g": replicatest.F("g")})
				from := replica.New()
				_, _, err := replicatest.Copy(t.Context(), from, src, dst)
				must(t, err, os.WriteFile(filepath.Join(src, "f"), after, 0o644))
				if forget {
					from = replica.New()
				}
				here, there := net.Pipe()
				tamper := func() { do(t, filepath.Join(dst, "f")) }
				sent := make(chan error, 1)
				go func() {
					_, err := from.Send(t.Context(), here, src)
					_ = here.Close()
					sent <- err
				}()
				_, err = replica.New().Receive(t.Context(), tampering{there, &tamper}, dst, replica.ReceiveOptions{})
				must(t, there.Close(), err, <-sent)
				if tamper != nil {
					t.Fatal("nothing was tampered with")
				}
				if diff := replicatest.Diff(src, dst); diff != "" {
					t.Error(diff)
				}
			})
		}
	}
}

// TestChangesAtRandom changes some files at random while they are followed.
func TestChangesAtRandom(t *testing.T) {
	content, random := randomBytes(t, 1<<20)
	l := newLink(t, replicatest.Tree{"small": replicatest.F("small")})
	l.to = replica.New(replica.Remember(time.Hour, 1<<30), replica.WithMaxLoss(0))
	names := []string{"a", "b", "c"}
	for i, name := range names {
		must(t, os.WriteFile(filepath.Join(l.src, name), content[:100_000*(i+1)], 0o644))
	}
	for range 5 {
		l.start(t)
		for range 4 {
			for range random.IntN(4) + 1 {
				edit(t, random, filepath.Join(l.src, names[random.IntN(3)]), content)
			}
			l.equal(t)
		}
		l.stop()
		if random.IntN(2) == 0 {
			l.from = replica.New()
		}
		edit(t, random, filepath.Join(l.src, names[random.IntN(3)]), content)
	}
	l.start(t)
	l.equal(t)
	if l.last.ConflictCount > 0 {
		t.Errorf("conflicts, and nothing but the source wrote: %+v", l.last.Conflicts)
	}
}

// edit changes a file in one way, in place or by replacing it.
func edit(t *testing.T, random *rand.Rand, name string, material []byte) {
	t.Helper()
	b, err := os.ReadFile(name)
	must(t, err)
	at := random.IntN(len(b) + 1)
	piece := material[random.IntN(len(material)):]
	piece = piece[:min(len(piece), random.IntN(1<<random.IntN(18)+1))]
	switch random.IntN(8) {
	case 0:
		b = append(b, piece...)
	case 1:
		b = slices.Insert(b, at, piece...)
	case 2:
		b = slices.Delete(b, at, min(len(b), at+len(piece)))
	case 3:
		copy(b[at:], piece)
	case 4: // in blocks that change places
		b = slices.Concat(b[at:], b[:at])
	case 5:
		b = slices.Concat(b, make([]byte, len(piece)))
	case 6: // a hole
		must(t, os.Truncate(name, int64(len(b)+random.IntN(300_000))))
		return
	case 7:
		b = slices.Concat(material[:at], b[at:])
	}
	b = b[:min(len(b), 900_000)]
	if random.IntN(2) == 0 {
		must(t, os.WriteFile(name, b, 0o644))
		return
	}
	must(t, os.WriteFile(name+".new", b, 0o644), os.Rename(name+".new", name))
}
