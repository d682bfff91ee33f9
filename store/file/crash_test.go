package file_test

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/store/file"
)

// seedEnv repeats a run of a test that draws at random.
const seedEnv = "BUDGIE_TEST_SEED"

func seeded(t *testing.T) *rand.Rand {
	seed := rand.Uint64()
	if text := os.Getenv(seedEnv); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("%s: %v", seedEnv, err)
		}
	}
	t.Logf("%s=%d", seedEnv, seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// A process that is killed at any moment leaves a whole state, and everything
// that it was told is stored.
func TestKilledWriters(t *testing.T) {
	const writers, kills = 4, 50
	random := seeded(t)
	var amid atomic.Int32
	t.Run("Writers", func(t *testing.T) {
		for n := range writers {
			own := rand.New(rand.NewPCG(random.Uint64(), 0))
			t.Run(strconv.Itoa(n), func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				if _, err := open(t, dir).Put(t.Context(), crashRecord(lifecycle.Container{}, 1)); err != nil {
					t.Fatal(err)
				}
				last := uint64(1)
				for range kills {
					acked := writeUntilKilled(t, own, dir)
					if _, err := os.Stat(filepath.Join(dir, "state.json.tmp")); err == nil {
						amid.Add(1)
					}
					last = checkAfterCrash(t, dir, max(last, acked))
				}
			})
		}
	})
	t.Logf("%d of %d crashes were amid a write of the file", amid.Load(), writers*kills)
	if amid.Load() == 0 {
		t.Error("no crash was amid a write, so little was tested")
	}
}

// writeUntilKilled returns the last revision that a child reported before it
// was killed, at a random moment of a random write.
func writeUntilKilled(t *testing.T, random *rand.Rand, dir string) (acked uint64) {
	p := start(t, "write", dir)
	wait := random.IntN(10)
	moment := time.NewTimer(time.Hour)
	defer moment.Stop()
	killed := make(chan struct{})
	go func() {
		defer close(killed)
		<-moment.C
		_ = p.cmd.Process.Kill()
	}()
	if wait == 0 { // before, in or just after its first write
		moment.Reset(time.Duration(random.Int64N(int64(40 * time.Millisecond))))
	}
	for n := 1; ; n++ {
		revision, ok := p.line()
		if !ok {
			break
		}
		acked = uint64(revision)
		if n == wait {
			moment.Reset(time.Duration(random.Int64N(int64(3 * time.Millisecond))))
		}
	}
	<-killed
	p.kill()
	return acked
}

// checkAfterCrash returns the revision found in dir, which must be that of the
// last acknowledged write, or of the one that was under way.
func checkAfterCrash(t *testing.T, dir string, acked uint64) uint64 {
	t.Helper()
	s, err := file.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	list, err := s.List(t.Context())
	if err != nil || len(list) != 1 {
		t.Fatalf("after a crash: %d records, %v", len(list), err)
	}
	c := list[0]
	if c.Revision < acked || c.Revision > acked+1 {
		t.Fatalf("after a crash: revision %d, but %d was acknowledged last", c.Revision, acked)
	}
	if want := crashRecord(c, c.Revision); c.Restarts != want.Restarts || c.Reason != want.Reason {
		t.Fatalf("after a crash: the record of revision %d is not what was written (%d, %d bytes)", c.Revision, c.Restarts, len(c.Reason))
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Error(err)
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".tmp") {
			t.Errorf("after a crash and a new Open: %s is left", filepath.Join(dir, e.Name()))
		}
	}
	return c.Revision
}
