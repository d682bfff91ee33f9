package replica_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/budgiehq/budgie/replica"
	"github.com/budgiehq/budgie/replica/replicatest"
)

// genTree draws a volume of few names and contents, so that two of them often
// have the same path with another kind, or the same content elsewhere.
func genTree(t *rapid.T, label string) replicatest.Tree {
	tree := replicatest.Tree{}
	var fill func(dir string, depth int)
	fill = func(dir string, depth int) {
		names := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "b-", "c\xff", "d"}), 0, 4, rapid.ID[string]).Draw(t, label+dir)
		for _, name := range names {
			path := filepath.Join(dir, name)
			n := replicatest.Node{
				Mode: fs.FileMode(rapid.SampledFrom([]int{0o755, 0o700, 0o644, 0o600, 0o444}).Draw(t, "mode")),
				Time: time.Unix(int64(rapid.IntRange(0, 3).Draw(t, "time")), 5),
			}
			switch rapid.IntRange(0, 3).Draw(t, "kind") {
			case 0:
				n.Mode |= 0o700
				tree[path] = n
				if depth < 3 {
					fill(path, depth+1)
				}
			case 1:
				n.Link = rapid.SampledFrom([]string{"a", "../b", "/etc/passwd", "."}).Draw(t, "link")
				tree[path] = n
			default:
				n.File, n.Content = true, rapid.SampledFrom([]string{"", "1", "2", "333"}).Draw(t, "content")
				tree[path] = n
			}
		}
	}
	fill("", 0)
	return tree
}

func TestAnyTreeBecomesAnyOther(t *testing.T) {
	base := t.TempDir()
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		src, dst := filepath.Join(base, fmt.Sprint("src", run)), filepath.Join(base, fmt.Sprint("dst", run))
		defer os.RemoveAll(src)
		defer os.RemoveAll(dst)
		source, there := genTree(rt, "source"), genTree(rt, "copy")
		replicatest.Build(t, src, source)
		replicatest.Build(t, dst, there)
		if len(source) == 0 && len(there) > 0 {
			if _, _, err := replicatest.Copy(t.Context(), replica.New(), src, dst); !errors.Is(err, replica.ErrEmptied) {
				rt.Fatalf("an empty source: %v", err)
			}
			return
		}
		sent, received, err := replicatest.Copy(t.Context(), replica.New(), src, dst)
		if err != nil {
			rt.Fatal(err)
		}
		if diff := replicatest.Diff(src, dst); diff != "" {
			rt.Fatal(diff)
		}
		if sent.Digest != received.Digest {
			rt.Fatalf("sender's digest %s, receiver's %s", sent.Digest, received.Digest)
		}
		again, _, err := replicatest.Copy(t.Context(), replica.New(), src, dst)
		if err != nil || again.Transferred != 0 || again.Removed != 0 || again.Digest != sent.Digest {
			rt.Fatalf("copied again without need: %+v, %v", again, err)
		}
	})
}

// What is there under any name is not sent.
func TestMovedFilesAreNotSent(t *testing.T) {
	f := replicatest.F
	big := string(make([]byte, 200_000))
	for name, c := range map[string]struct{ before, after replicatest.Tree }{
		"renamed":             {replicatest.Tree{"a": f(big)}, replicatest.Tree{"b": f(big)}},
		"into a new tree":     {replicatest.Tree{"a": f(big)}, replicatest.Tree{"x/y/z": f(big)}},
		"directory renamed":   {replicatest.Tree{"d/1": f("1"), "d/2": f("2")}, replicatest.Tree{"e/1": f("1"), "e/2": f("2")}},
		"swapped":             {replicatest.Tree{"a": f("1"), "b": f("2")}, replicatest.Tree{"a": f("2"), "b": f("1")}},
		"rotated":             {replicatest.Tree{"a": f("1"), "b": f("2"), "c": f("3")}, replicatest.Tree{"a": f("3"), "b": f("1"), "c": f("2")}},
		"duplicated":          {replicatest.Tree{"a": f(big)}, replicatest.Tree{"a": f(big), "b": f(big), "c": f(big)}},
		"up over its parent":  {replicatest.Tree{"a/b": f("1")}, replicatest.Tree{"a": f("1")}},
		"down under its name": {replicatest.Tree{"a": f("1")}, replicatest.Tree{"a/b": f("1")}},
	} {
		t.Run(name, func(t *testing.T) {
			src, dst := filepath.Join(t.TempDir(), "src"), filepath.Join(t.TempDir(), "dst")
			replicatest.Build(t, src, c.after)
			replicatest.Build(t, dst, c.before)
			report, _, err := replicatest.Copy(t.Context(), replica.New(), src, dst)
			if err != nil {
				t.Fatal(err)
			}
			if diff := replicatest.Diff(src, dst); diff != "" {
				t.Error(diff)
			}
			if report.Transferred != 0 {
				t.Errorf("%d bytes were sent", report.Transferred)
			}
		})
	}
}

func TestEqualFilesAreSentOnce(t *testing.T) {
	src, dst := filepath.Join(t.TempDir(), "src"), filepath.Join(t.TempDir(), "dst")
	replicatest.Build(t, src, replicatest.Tree{"a": replicatest.F("12345"), "b/c": replicatest.F("12345"), "d": replicatest.F("12345")})
	report, _, err := replicatest.Copy(t.Context(), replica.New(), src, dst)
	if err != nil || report.Transferred != 5 || report.Bytes != 15 {
		t.Errorf("want 5 of 15 bytes sent, got %+v, %v", report, err)
	}
	if diff := replicatest.Diff(src, dst); diff != "" {
		t.Error(diff)
	}
}
