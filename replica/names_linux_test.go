package replica_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/budgiehq/budgie/replica"
	"github.com/budgiehq/budgie/replica/replicatest"
)

// Every byte that Linux allows in a name travels, in names of files, of
// directories and in targets of links, and so do times of nested directories.
func TestCaseV7NamesAreAnyBytes(t *testing.T) {
	src, dst := filepath.Join(t.TempDir(), "src"), filepath.Join(t.TempDir(), "dst")
	tree := replicatest.Tree{}
	for b := 1; b < 256; b++ {
		if b == '/' {
			continue
		}
		name := "n" + string([]byte{byte(b)})
		tree[name] = replicatest.Node{Time: time.Unix(int64(b), int64(b))}
		tree[name+"/"+name] = replicatest.F(name)
		tree[name+"/link"] = replicatest.Node{Link: name}
	}
	replicatest.Build(t, src, tree)
	report, _, err := replicatest.Copy(t.Context(), replica.New(), src, dst)
	if err != nil {
		t.Fatal(err)
	}
	if diff := replicatest.Diff(src, dst); diff != "" {
		t.Error(diff)
	}
	if want := 3 * 254; report.Files != want {
		t.Errorf("%d entries were copied, want %d", report.Files, want)
	}
}
