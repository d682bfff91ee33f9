package torture

import (
	"cmp"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/budgiehq/budgie/internal/testenv"
)

func sortedNames[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }

// rsyncDiff returns what rsync would do to make dst what src is.
func rsyncDiff(t *testing.T, src, dst string) string {
	t.Helper()
	rsync, err := exec.LookPath("rsync")
	if err != nil {
		testenv.Skip(t, "needs rsync: apt-get install rsync")
	}
	cmd := exec.CommandContext(t.Context(), rsync, "-aHAXn", "--delete", "--itemize-changes", "--checksum", "--modify-window=-1", src+"/", dst+"/")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, out)
	}
	return string(out)
}

// photo says everything of what is below a directory, but for some paths, that
// changes if anything is done to it. Reading does not count.
func photo(t *testing.T, dir string, but ...string) map[string]string {
	t.Helper()
	all := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if slices.Contains(but, path) {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		what := fmt.Sprint(info.Mode(), st.Uid, st.Gid, st.Ino)
		if path != dir && !slices.ContainsFunc(but, func(b string) bool { return filepath.Dir(b) == path }) {
			what += fmt.Sprint(" ", st.Nlink, st.Size, st.Mtim, st.Ctim)
		}
		all[path] = what
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// changed says what two photos do not have in common.
func changed(before, after map[string]string) string {
	var diff []string
	for _, p := range sortedNames(before) {
		if after[p] != before[p] {
			diff = append(diff, fmt.Sprintf("%q was %s, is %s", p, before[p], after[p]))
		}
	}
	for _, p := range sortedNames(after) {
		if _, ok := before[p]; !ok {
			diff = append(diff, fmt.Sprintf("%q is new", p))
		}
	}
	return strings.Join(diff, "\n")
}

// used returns how many bytes and files of a file system are in use.
func used(t *testing.T, dir string) (bytes, files uint64) {
	t.Helper()
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	return (st.Blocks - st.Bfree) * uint64(st.Bsize), st.Files - st.Ffree
}

// must ends the test with an error.
func must(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// put makes a file.
func put(t *testing.T, dir, name, text string) {
	t.Helper()
	at := filepath.Join(dir, name)
	must(t, os.MkdirAll(filepath.Dir(at), 0o755), os.WriteFile(at, []byte(text), 0o644))
}
