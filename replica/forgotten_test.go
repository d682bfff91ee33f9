package replica_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/budgiehq/budgie/replica"
	"github.com/budgiehq/budgie/replica/replicatest"
)

// spoil makes what a copy remembers useless: cuts it off, writes into it, or, as
// nobody should, removes it.
var spoil = map[string]func(name string) error{
	"cut off": func(name string) error { return os.Truncate(name, 100) },
	"empty":   func(name string) error { return os.Truncate(name, 0) },
	"other":   func(name string) error { return os.WriteFile(name, []byte(strings.Repeat("nonsense", 100)), 0o600) },
	"removed": os.Remove,
}

// Where it is not known any more what a copy was, what was written into it is kept
// all the same: as a conflict, where that can be noticed.
func TestCopyThatForgotKeepsWhatWasWritten(t *testing.T) {
	for how, spoil := range spoil {
		t.Run(how, func(t *testing.T) {
			l := newLink(t, replicatest.Tree{"1": replicatest.F("one"), "2": replicatest.F("two"), "3": replicatest.F("three")})
			var texts []string
			for i := range 2 {
				l.start(t)
				l.equal(t)
				l.stop()
				must(t, spoil(l.dst+".index"))
				for _, name := range []string{"1", "own"} {
					texts = append(texts, fmt.Sprintf("written into %s for the %d. time", name, i))
					write(t, l.dst, name, texts[len(texts)-1])
				}
			}
			l.start(t)
			s := l.equal(t)
			if how != "removed" && s.ConflictCount != len(texts) {
				t.Errorf("conflicts: %+v", s.Conflicts)
			}
			l.stop()
			l.start(t) // which may tidy up
			l.equal(t)
			kept := keptTexts(t, l.dst)
			for _, text := range texts {
				if !kept[text] {
					t.Errorf("%q is lost", text)
				}
			}
		})
	}
}

// keptTexts are the contents of all files that are kept beside a copy.
func keptTexts(t *testing.T, dir string) map[string]bool {
	t.Helper()
	texts := make(map[string]bool)
	must(t, filepath.WalkDir(dir+".kept", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			var text []byte
			text, err = os.ReadFile(path)
			texts[string(text)] = true
		}
		return err
	}))
	return texts
}

// V1: nor is such a copy emptied.
func TestCaseV1CopyThatForgotWaitsForConsent(t *testing.T) {
	for how, spoil := range spoil {
		if how == "removed" {
			continue // one without a memory never was complete
		}
		t.Run(how, func(t *testing.T) {
			l := newLink(t, replicatest.Tree{"a": replicatest.F("a"), "b": replicatest.F("b"), "c": replicatest.F("c"), "d": replicatest.F("d")})
			l.start(t)
			l.equal(t)
			l.stop()
			must(t, spoil(l.dst+".index"))
			must(t, os.Remove(filepath.Join(l.src, "b")), os.Remove(filepath.Join(l.src, "c")), os.Remove(filepath.Join(l.src, "d")))
			l.start(t)
			s := l.until(t, "suspension", func(s replica.FollowState) bool { return s.Phase == replica.Suspended || s.Phase == replica.Synced })
			if s.Held == "" || !strings.Contains(s.Reason, replica.ErrLoss.Error()) {
				t.Errorf("the state is %+v", s)
			}
			if _, err := os.Stat(filepath.Join(l.dst, "d")); errors.Is(err, fs.ErrNotExist) {
				t.Error("the copy has lost its files")
			}
		})
	}
}
