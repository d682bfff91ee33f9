package replica_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
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
	var files []string
	var fill func(dir string, depth int)
	fill = func(dir string, depth int) {
		names := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "b-", "c\xff", "d"}), 0, 4, rapid.ID[string]).Draw(t, label+dir)
		for _, name := range names {
			path := filepath.Join(dir, name)
			n := genNode(t)
			switch kind := rapid.IntRange(0, 4).Draw(t, "kind"); {
			case kind == 0:
				n.Mode |= 0o700
				tree[path] = n
				if depth < 3 {
					fill(path, depth+1)
				}
				continue
			case kind == 1:
				n.Link, n.Xattrs = rapid.SampledFrom([]string{"a", "../b", "/etc/passwd", "."}).Draw(t, "link"), nil
			case kind == 2 && len(files) > 0:
				n = replicatest.Node{HardLink: rapid.SampledFrom(files).Draw(t, "other name")}
			default:
				n.File, n.Content = true, rapid.SampledFrom([]string{"", "1", "2", "333"}).Draw(t, "content")
				files = append(files, path)
			}
			tree[path] = n
		}
	}
	fill("", 0)
	return tree
}

// genNode draws what all kinds of nodes can have, and this user can make.
func genNode(t *rapid.T) replicatest.Node {
	n := replicatest.Node{
		Mode: fs.FileMode(rapid.SampledFrom([]int{0o755, 0o700, 0o644, 0o600, 0o444}).Draw(t, "mode")),
		Time: time.Unix(int64(rapid.IntRange(0, 3).Draw(t, "time")), 5),
	}
	if runtime.GOOS == "linux" {
		n.Xattrs = rapid.MapOfN(rapid.SampledFrom([]string{"user.a", "user.b"}), rapid.StringN(0, 3, 9), 0, 2).Draw(t, "attributes")
	}
	if os.Geteuid() == 0 {
		n.Mode |= rapid.SampledFrom([]fs.FileMode{0, 0, fs.ModeSetuid, fs.ModeSetgid, fs.ModeSticky}).Draw(t, "bits")
		n.UID, n.GID = rapid.SampledFrom([]int{0, 1, 1000}).Draw(t, "user"), rapid.SampledFrom([]int{0, 2}).Draw(t, "group")
	}
	return n
}

// treeOf is the same tree for the same seed, and is not empty.
func treeOf(seed int) replicatest.Tree {
	tree := rapid.Custom(func(t *rapid.T) replicatest.Tree { return genTree(t, "tree") }).Example(seed)
	tree["stays"] = replicatest.F("0")
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

// What names are one file changes without data on the way.
func TestHardLinksMoveNoData(t *testing.T) {
	type tree = replicatest.Tree
	big, other := replicatest.F(strings.Repeat("x", 200_000)), replicatest.F("other")
	name := func(of string) replicatest.Node { return replicatest.Node{HardLink: of} }
	for what, c := range map[string]struct {
		before, after tree
		bytes         int64
	}{
		"joined":             {tree{"a": big, "b": big}, tree{"a": big, "b": name("a")}, 0},
		"apart":              {tree{"a": big, "b": name("a")}, tree{"a": big, "b": big}, 0},
		"one more":           {tree{"b": big}, tree{"b": big, "c": name("b")}, 0},
		"one more before":    {tree{"b": big}, tree{"a": big, "b": name("a")}, 0},
		"first one goes":     {tree{"a": big, "b": name("a"), "c": name("a")}, tree{"b": big, "c": name("b")}, 0},
		"to another file":    {tree{"a": big, "b": other, "c": name("b")}, tree{"a": big, "b": name("a"), "c": other}, 0},
		"two become one":     {tree{"a": big, "b": name("a"), "c": big, "d": name("c")}, tree{"a": big, "b": name("a"), "c": name("a"), "d": name("a")}, 0},
		"exchange":           {tree{"a": big, "b": other, "c": name("a"), "d": name("b")}, tree{"a": big, "b": other, "c": name("b"), "d": name("a")}, 0},
		"moved together":     {tree{"a": big, "b": name("a")}, tree{"x/a": big, "x/b": name("x/a")}, 0},
		"under its own name": {tree{"a": big, "b": name("a")}, tree{"a/a": big, "b": name("a/a")}, 0},
		"content of all":     {tree{"a": big, "b": name("a")}, tree{"a": other, "b": name("a")}, 5},
		"content of one":     {tree{"a": big, "b": name("a")}, tree{"a": big, "b": other}, 5},
	} {
		t.Run(what, func(t *testing.T) {
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
			if report.Transferred != c.bytes {
				t.Errorf("%d bytes were sent, want %d", report.Transferred, c.bytes)
			}
		})
	}
}

// A file in the copy may have a name outside of it, in a backup perhaps: what
// happens to the copy does not happen there.
func TestNamesOutsideTheCopyAreLeftAlone(t *testing.T) {
	f := replicatest.F("content")
	changed := replicatest.Node{File: true, Content: "content", Mode: 0o600, Time: time.Unix(1, 1)}
	for what, after := range map[string]replicatest.Tree{
		"mode and time":      {"a": changed},
		"of all names":       {"a": changed, "b": {HardLink: "a"}},
		"content":            {"a": replicatest.F("other")},
		"name moves":         {"c": changed},
		"name comes before":  {"A": changed, "a": {HardLink: "A"}},
		"under its own name": {"a/a": changed},
	} {
		t.Run(what, func(t *testing.T) {
			base := t.TempDir()
			src, dst, outside := filepath.Join(base, "src"), filepath.Join(base, "dst"), filepath.Join(base, "outside")
			replicatest.Build(t, src, after)
			replicatest.Build(t, dst, replicatest.Tree{"a": f, "b": {HardLink: "a"}})
			replicatest.Build(t, outside, replicatest.Tree{})
			if err := os.Link(filepath.Join(dst, "a"), filepath.Join(outside, "a")); err != nil {
				t.Fatal(err)
			}
			before := state(t, outside)
			if _, _, err := replicatest.Copy(t.Context(), replica.New(), src, dst); err != nil {
				t.Fatal(err)
			}
			if diff := replicatest.Diff(src, dst); diff != "" {
				t.Error(diff)
			}
			if after := state(t, outside); after["a"] != before["a"] {
				t.Errorf("outside it was %q, is %q", before["a"], after["a"])
			}
		})
	}
}
