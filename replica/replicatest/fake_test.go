package replicatest_test

import (
	"errors"
	"path/filepath"
	"testing"

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
	for name, other := range map[string]tree{
		"content": {"f": replicatest.F("2"), "d": {}, "l": {Link: "f"}},
		"mode":    {"f": {File: true, Content: "1", Mode: 0o600}, "d": {}, "l": {Link: "f"}},
		"target":  {"f": replicatest.F("1"), "d": {}, "l": {Link: "d"}},
		"missing": {"f": replicatest.F("1"), "l": {Link: "f"}},
		"extra":   {"f": replicatest.F("1"), "d": {}, "l": {Link: "f"}, "x": {}},
		"kind":    {"f": {}, "d": {}, "l": {Link: "f"}},
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
