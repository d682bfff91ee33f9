//go:build unix

package file_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/store/file"
)

// Whoever can write in the directory can have commands run.
func TestOpenWhereOthersMayWrite(t *testing.T) {
	for _, c := range []struct {
		mode    os.FileMode
		used    bool
		refused bool
	}{
		{mode: 0o700}, {mode: 0o755, used: true}, {mode: 0o750}, {mode: 0o555 | 0o200},
		{mode: 0o775}, {mode: 0o770},
		{mode: 0o775, used: true, refused: true},
		{mode: 0o702, refused: true},
		{mode: 0o777, refused: true},
		{mode: 0o777, used: true, refused: true},
		{mode: 0o770 | os.ModeSticky, refused: true},
		{mode: 0o777 | os.ModeSticky, refused: true},
	} {
		dir := t.TempDir()
		if c.used {
			if err := os.WriteFile(filepath.Join(dir, "other"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Chmod(dir, c.mode); err != nil {
			t.Fatal(err)
		}
		s, err := file.Open(dir)
		info, serr := os.Stat(dir)
		if serr != nil {
			t.Fatal(serr)
		}
		if c.refused {
			wantOpenAdvice(t, err, dir)
			if !strings.Contains(err.Error(), "chmod 0700") {
				t.Errorf("mode %o: %v", c.mode, err)
			}
			if _, err := os.Lstat(filepath.Join(dir, "owners")); !os.IsNotExist(err) || info.Mode().Perm() != c.mode.Perm() {
				t.Errorf("mode %o: it was changed, to %o: %v", c.mode, info.Mode(), err)
			}
			continue
		}
		if err != nil {
			t.Errorf("mode %o: %v", c.mode, err)
			continue
		}
		if info.Mode().Perm()&0o022 != 0 {
			t.Errorf("mode %o: others may write to it still: %o", c.mode, info.Mode())
		}
		if _, err := s.Put(t.Context(), lifecycle.Container{ID: "aa", Name: "a"}); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}
