package replicatest_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/budgiehq/budgie/replica/replicatest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestFakeConforms(t *testing.T) {
	replicatest.Run(t, func(*testing.T) replicatest.Syncer { return replicatest.NewFake() })
}

func TestFakeFailsOnDemand(t *testing.T) {
	fake := replicatest.NewFake()
	src, dst := filepath.Join(t.TempDir(), "src"), filepath.Join(t.TempDir(), "dst")
	replicatest.Build(t, src, replicatest.Tree{"a": replicatest.F("1")})
	broken := errors.New("broken")
	fake.Fail(broken)
	if _, _, err := replicatest.Copy(t.Context(), fake, src, dst); !errors.Is(err, broken) {
		t.Errorf("want the error asked for, got %v", err)
	}
	fake.Fail(nil)
	if _, _, err := replicatest.Copy(t.Context(), fake, src, dst); err != nil {
		t.Error(err)
	}
	if got := fake.Received(); len(got) != 1 || got[0] != dst {
		t.Errorf("Received() = %q, want only the copy that succeeded", got)
	}
}

func TestDiffSeesEverything(t *testing.T) {
	type tree = replicatest.Tree
	base := tree{"f": replicatest.F("1"), "d": {}, "l": {Link: "f"}}
	moment := time.Unix(1, 1)
	for name, other := range map[string]tree{
		"content": {"f": replicatest.F("2"), "d": {}, "l": {Link: "f"}},
		"mode":    {"f": {File: true, Content: "1", Mode: 0o600}, "d": {}, "l": {Link: "f"}},
		"target":  {"f": replicatest.F("1"), "d": {}, "l": {Link: "d"}},
		"missing": {"f": replicatest.F("1"), "l": {Link: "f"}},
		"extra":   {"f": replicatest.F("1"), "d": {}, "l": {Link: "f"}, "x": {}},
		"kind":    {"f": {}, "d": {}, "l": {Link: "f"}},
		"time":    {"f": {File: true, Content: "1", Time: moment}, "d": {}, "l": {Link: "f"}},
		"link":    {"f": replicatest.F("1"), "d": {}, "l": {Link: "f", Time: moment}},
		"bits":    {"f": replicatest.F("1"), "d": {Mode: 0o755 | fs.ModeSetgid}, "l": {Link: "f"}},
	} {
		a, b := filepath.Join(t.TempDir(), "a"), filepath.Join(t.TempDir(), "b")
		replicatest.Build(t, a, base)
		replicatest.Build(t, b, other)
		if replicatest.Diff(a, b) == "" {
			t.Errorf("%s: no difference seen", name)
		}
		if diff := replicatest.Diff(a, a); diff != "" {
			t.Errorf("%s: a tree differs from itself: %s", name, diff)
		}
	}
}

// What only some can make.
func TestDiffSeesWhatIsRare(t *testing.T) {
	type tree = replicatest.Tree
	type pair struct{ a, b tree }
	pairs := map[string]pair{
		"joined": {tree{"f": replicatest.F("1"), "g": replicatest.F("1")}, tree{"f": replicatest.F("1"), "g": {HardLink: "f"}}},
		"other group": {tree{"a": replicatest.F("1"), "b": {HardLink: "a"}, "c": replicatest.F("1"), "d": {HardLink: "c"}},
			tree{"a": replicatest.F("1"), "b": replicatest.F("1"), "c": {HardLink: "b"}, "d": {HardLink: "a"}}},
	}
	if runtime.GOOS == "linux" {
		attr := func(value string) tree {
			return tree{"f": {File: true, Xattrs: map[string]string{"user.a": value}}}
		}
		pairs["attribute"] = pair{attr("1"), attr("2")}
		pairs["no attribute"] = pair{attr("1"), tree{"f": {File: true}}}
	}
	if os.Geteuid() == 0 {
		pairs["owner"] = pair{tree{"f": {File: true, UID: 1}}, tree{"f": {File: true, UID: 2}}}
		pairs["group of a link"] = pair{tree{"l": {Link: "f", GID: 1}}, tree{"l": {Link: "f", GID: 2}}}
	}
	for name, p := range pairs {
		a, b := filepath.Join(t.TempDir(), "a"), filepath.Join(t.TempDir(), "b")
		replicatest.Build(t, a, p.a)
		replicatest.Build(t, b, p.b)
		if replicatest.Diff(a, b) == "" || replicatest.Diff(b, a) == "" {
			t.Errorf("%s: no difference seen", name)
		}
	}
}
