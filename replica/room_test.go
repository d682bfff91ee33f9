package replica

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// attics are used without a copy.
func testAttic(t *testing.T, age time.Duration, size int64) (a *attic, put func(name, text string)) {
	t.Helper()
	base := t.TempDir()
	root, err := openRoot(base)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = root.Close() })
	a = (&beside{dir: filepath.Join(base, "copy"), age: age, size: size}).attic()
	return a, func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(base, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := a.keepOld(root, found{entry: entry{path: name, kind: kindFile, size: int64(len(text))}}, false); err != nil {
			t.Fatal(err)
		}
	}
}

func replacedIn(t *testing.T, a *attic) string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(a.dir, atticReplaced, "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for i, path := range all {
		all[i] = filepath.Base(path)
	}
	return strings.Join(all, " ")
}

// What is kept stays within its bound, but for a quarter of it, also during a change, and
// afterwards when nothing else changes.
func TestReplacedFilesStayWithinTheirBound(t *testing.T) {
	a, put := testAttic(t, time.Hour, 8*leastKept)
	a.begin()
	a.prune()
	for i := range 5 {
		a.begin()
		put(fmt.Sprint("large", i), strings.Repeat("x", 3*leastKept))
		a.prune() // less than a minute after the last time
	}
	if got := replacedIn(t, a); got != "large3 large4" {
		t.Errorf("kept of files of a change each: %s", got)
	}
	a.begin()
	put("huge", strings.Repeat("x", 9*leastKept))
	for i := range 6 {
		put(fmt.Sprint("small", i), "x")
	}
	a.prune()
	if got := replacedIn(t, a); got != "small0 small1 small2 small3 small4 small5" {
		t.Errorf("kept of a change of more than is kept: %s", got)
	}
	a.age, a.pruned = 0, time.Time{}
	a.prune()
	if got := replacedIn(t, a); got != "" {
		t.Errorf("kept of what is too old: %s", got)
	}
}

// One change that replaces much leaves no more in the attic than one that replaces little.
func TestReplacedFilesOfOneChangeStayWithinTheirBound(t *testing.T) {
	const size = 8 * leastKept
	a, put := testAttic(t, time.Hour, size)
	a.begin()
	for i := range 100 {
		put(fmt.Sprintf("%03d", i), strings.Repeat("x", leastKept))
		if got := strings.Fields(replacedIn(t, a)); len(got) > 10 {
			t.Fatalf("after %d files of one change these are kept: %v", i+1, got)
		}
	}
}
