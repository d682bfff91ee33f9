package replica_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/budgiehq/budgie/replica"
	"github.com/budgiehq/budgie/replica/replicatest"
)

// TestCaseV6RandomChangesConverge changes a source at random, while it is followed
// over a connection that is cut again and again.
func TestCaseV6RandomChangesConverge(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	l := newLink(t, replicatest.Tree{"keep": replicatest.F("this"), "too": replicatest.F("that")})
	l.to = replica.New(replica.Remember(time.Hour, 1<<30), replica.WithMaxLoss(0))
	var conflicts []replica.Conflict
	for range 12 {
		l.start(t)
		for range random.IntN(6) + 1 {
			for range random.IntN(40) + 1 {
				churn(t, random, l.src)
			}
			// Some of the time the next changes come while the last are on their way.
			if random.IntN(2) == 0 {
				l.until(t, "news", func(replica.FollowState) bool { return true })
			}
		}
		if random.IntN(3) == 0 {
			l.equal(t)
		}
		l.stop()
		conflicts = append(conflicts, l.last.Conflicts...)
		if random.IntN(3) == 0 {
			l.from = replica.New() // it has forgotten what it read
		}
	}
	l.start(t)
	l.equal(t)
	if conflicts = append(conflicts, l.last.Conflicts...); len(conflicts) > 0 {
		t.Errorf("conflicts, and nothing but the source wrote: %+v", conflicts)
	}
}

// churn makes one change below dir. Those that cannot be made are none.
func churn(t *testing.T, random *rand.Rand, dir string) {
	name := func() string {
		at := dir
		for range random.IntN(3) + 1 {
			at = filepath.Join(at, string(rune('a'+random.IntN(5))))
		}
		return at
	}
	at := name()
	switch random.IntN(10) {
	case 0, 1, 2:
		_ = os.WriteFile(at, fmt.Append(nil, random.Uint64()), 0o644)
	case 3:
		_ = os.MkdirAll(at, 0o755)
	case 4:
		_ = os.RemoveAll(at)
	case 5, 6:
		_ = os.Rename(at, name())
	case 7:
		_ = os.Chmod(at, 0o700|os.FileMode(random.IntN(64)))
	case 8:
		_ = os.Symlink(filepath.Base(name()), at)
	case 9:
		f, err := os.OpenFile(at, os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			return
		}
		_, _ = f.Write(make([]byte, random.IntN(1<<16)))
		must(t, f.Close())
	}
}
