package replicatest

import (
	"errors"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/budgiehq/budgie/replica"
)

func testKinds(t *testing.T, s Syncer) {
	src, dst := dirs(t)
	Build(t, src, Tree{
		"file":           F("content"),
		"empty file":     F(""),
		"empty dir":      {},
		"dir/deep/er/f":  F("deep"),
		"dir/link":       {Link: "deep/er/f"},
		"dangling":       {Link: "nowhere"},
		"dir/other/file": F("content"), // the same as file
	})
	report := mustCopy(t, s, src, dst)
	if want := 11; report.Files != want {
		t.Errorf("Files = %d, want %d", report.Files, want)
	}
	if want := int64(len("content") + len("deep") + len("content")); report.Bytes != want {
		t.Errorf("Bytes = %d, want %d", report.Bytes, want)
	}
	if report.Transferred < int64(len("contentdeep")) || report.Transferred > report.Bytes {
		t.Errorf("Transferred = %d of %d bytes", report.Transferred, report.Bytes)
	}
	if report.Removed != 0 || len(report.Skipped) != 0 {
		t.Errorf("a fresh copy reports Removed %d, Skipped %v", report.Removed, report.Skipped)
	}
}

func testEmpty(t *testing.T, s Syncer) {
	src, dst := dirs(t)
	if report := mustCopy(t, s, src, dst); report.Files != 0 || report.Bytes != 0 {
		t.Errorf("an empty volume reports %+v", report)
	}
	if info, err := os.Stat(dst); err != nil || !info.IsDir() {
		t.Errorf("the copy was not created: %v", err)
	}
}

func testLarge(t *testing.T, s Syncer) {
	src, dst := dirs(t)
	// Sizes around powers of two, where buffers end.
	tree := Tree{}
	for _, size := range []int{1<<16 - 1, 1 << 16, 1<<16 + 1, 1 << 17, 3<<20 + 7} {
		tree["f"+strings.Repeat("x", len(tree))] = F(strings.Repeat("0123456789abcde", size/15+1)[:size])
	}
	Build(t, src, tree)
	mustCopy(t, s, src, dst)
}

func testMetadata(t *testing.T, s Syncer) {
	src, dst := dirs(t)
	old := time.Date(1971, 3, 4, 5, 6, 7, 1, time.UTC)
	Build(t, src, Tree{
		"":          {Mode: 0o700, Time: old},
		"script":    {File: true, Mode: 0o755, Content: "#!", Time: old},
		"secret":    {File: true, Mode: 0o600, Content: "s"},
		"readonly":  {File: true, Mode: 0o444, Content: "r"},
		"locked":    {Mode: 0o555, Time: old},
		"locked/in": {File: true, Mode: 0o400, Content: "i", Time: time.Date(2100, 1, 1, 0, 0, 0, 999999999, time.UTC)},
		"shared":    {Mode: fs.ModeSticky | 0o777},
	})
	t.Cleanup(func() {
		_ = os.Chmod(filepath.Join(src, "locked"), 0o755)
		_ = os.Chmod(filepath.Join(dst, "locked"), 0o755)
	})
	mustCopy(t, s, src, dst)
	// The same content, everything else different.
	for path, n := range map[string]Node{
		"script":    {File: true, Mode: 0o644},
		"secret":    {File: true, Mode: 0o640, Time: old},
		"locked/in": {File: true, Mode: 0o444},
		"locked":    {Mode: 0o500},
		"":          {Mode: 0o750},
	} {
		if err := dress(filepath.Join(src, path), n); err != nil {
			t.Fatal(err)
		}
	}
	mustCopy(t, s, src, dst)
}

// The owner of a copy gets over the modes in it, root or not.
func testLocked(t *testing.T, s Syncer) {
	src, dst := dirs(t)
	Build(t, src, Tree{"readonly/in": F("new"), "readonly/new": F("1"), "readonly/sub/deep": F("2"), "closed/same": F("same"),
		"moved": F("moved"), "unreadable": F("kept")})
	Build(t, dst, Tree{
		"":               {Mode: 0o500},
		"readonly":       {Mode: 0o555},
		"readonly/in":    {File: true, Mode: 0o400, Content: "old"},
		"readonly/extra": F("x"),
		"closed":         {Mode: 0o1},
		"closed/same":    F("same"),
		"closed/from":    F("moved"),
		"gone":           {Mode: 0o200},
		"gone/extra":     F("x"),
		"unreadable":     {File: true, Mode: 0o200, Content: "kept"},
	})
	mustCopy(t, s, src, dst)
}

func testNames(t *testing.T, s Syncer) {
	src, dst := dirs(t)
	tree := Tree{}
	for _, name := range []string{
		" ", "...", "..a", "-rf", "a\nb", "a\tb", `back\slash`, `"quoted"`, "*?[", "C:", "käse", "日本語", "\u202e",
		strings.Repeat("n", 255), "dir/.hidden", "~", "a b/c d", strings.Repeat("d/", 60) + "deep",
	} {
		tree[name] = F(name)
	}
	Build(t, src, tree)
	mustCopy(t, s, src, dst)
}

func testRemoves(t *testing.T, s Syncer) {
	src, dst := dirs(t)
	Build(t, src, Tree{"keep": F("1"), "dir/keep": F("2")})
	Build(t, dst, Tree{"keep": F("0"), "extra": F("x"), "dir/extra": F("y"), "tree/of/extras": F("z"), "link": {Link: "keep"}})
	report := mustCopy(t, s, src, dst)
	if want := 6; report.Removed != want { // extra, dir/extra, tree and its two, link
		t.Errorf("Removed = %d, want %d", report.Removed, want)
	}
}

// testEmptied: a source that holds nothing any more may be one that is not
// mounted.
func testEmptied(t *testing.T, s Syncer) {
	src, dst := dirs(t)
	Build(t, src, Tree{"dir": {}})
	mustCopy(t, s, src, dst)
	if err := os.Remove(filepath.Join(src, "dir")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Copy(t.Context(), s, src, dst); !errors.Is(err, replica.ErrEmptied) {
		t.Errorf("got %v; want ErrEmptied", err)
	}
	if _, err := os.Stat(filepath.Join(dst, "dir")); err != nil {
		t.Errorf("the copy was emptied: %v", err)
	}
	Build(t, src, Tree{"other": F("1")})
	mustCopy(t, s, src, dst)
}

func testReplaces(t *testing.T, s Syncer) {
	kinds := map[string]Tree{
		"file":      {"x": F("file")},
		"other":     {"x": F("other")},
		"directory": {"x/a/b": F("inside"), "x/c": F("file")},
		"empty":     {"x": {}},
		"link":      {"x": {Link: "target"}, "target/a": F("1")},
		"nothing":   {},
	}
	for from, before := range kinds {
		for to, after := range kinds {
			t.Run(from+" by "+to, func(t *testing.T) {
				src, dst := dirs(t)
				after := maps.Clone(after)
				after["stays"] = F("0") // no copy is emptied
				Build(t, src, after)
				Build(t, dst, before)
				mustCopy(t, s, src, dst)
			})
		}
	}
}

func testRepeat(t *testing.T, s Syncer) {
	src, dst := dirs(t)
	Build(t, src, Tree{"a": F("1"), "b/c": F("2"), "d": {Link: "a"}})
	first := mustCopy(t, s, src, dst)
	again := mustCopy(t, s, src, dst)
	if again.Digest != first.Digest {
		t.Errorf("the digest changed without a change: %s, then %s", first.Digest, again.Digest)
	}
	if again.Transferred != 0 || again.Removed != 0 {
		t.Errorf("nothing changed, but the second copy reports %+v", again)
	}
}

func testLinks(t *testing.T, s Syncer) {
	src, dst := dirs(t)
	outside := filepath.Join(t.TempDir(), "outside")
	Build(t, outside, Tree{"secret": F("secret"), "dir/precious": F("precious")})
	Build(t, src, Tree{"absolute": {Link: filepath.Join(outside, "secret")}, "up": {Link: "../../outside"},
		"a/f": F("1"), "b/f": F("2"), "c": F("3")})
	// Where the source has directories and files, the copy has ways out.
	Build(t, dst, Tree{"a": {Link: filepath.Join(outside, "dir")}, "b": {Link: "elsewhere"}, "elsewhere/f": F("0"),
		"c": {Link: filepath.Join(outside, "secret")}})
	mustCopy(t, s, src, dst)
	got := contents(t, outside)
	if len(got) != 2 || string(got["secret"]) != "secret" || string(got[filepath.Join("dir", "precious")]) != "precious" {
		t.Errorf("something outside the copy was touched: %q", got)
	}
}

func testSpecial(t *testing.T, s Syncer) {
	src, dst := dirs(t)
	Build(t, src, Tree{"file": F("1"), "dir": {}})
	// A socket is a special file that every Unix user can make. Its path is
	// relative because it must be short.
	t.Chdir(filepath.Join(src, "dir"))
	l, err := net.Listen("unix", "sock")
	if err != nil {
		t.Fatalf("cannot make a socket to skip: %v", err)
	}
	defer l.Close()
	report := mustCopy(t, s, src, dst)
	if !slices.Equal(report.Skipped, []string{"dir/sock"}) {
		t.Errorf("Skipped = %q, want the socket", report.Skipped)
	}
	if _, err := os.Lstat(filepath.Join(dst, "dir", "sock")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket was copied: %v", err)
	}
}

func testSourceUntouched(t *testing.T, s Syncer) {
	src, dst := dirs(t)
	Build(t, src, Tree{"a": F("1"), "b/c": F("2"), "d": {Link: "a"}, "e": {}})
	before, err := describe(src)
	if err != nil {
		t.Fatal(err)
	}
	Build(t, dst, Tree{"a": F("other"), "extra": F("x")})
	mustCopy(t, s, src, dst)
	after, err := describe(src)
	if err != nil {
		t.Fatal(err)
	}
	for path, words := range before {
		if after[path] != words {
			t.Errorf("source: %q was %q, is %q", path, words, after[path])
		}
	}
	if len(after) != len(before) {
		t.Errorf("the source had %d entries and has %d", len(before), len(after))
	}
}

func testDigest(t *testing.T, s Syncer) {
	base := Tree{"a": F("1"), "b": F("2"), "l": {Link: "a"}, "dir": {}}
	variants := map[string]func(Tree){
		"content":   func(tr Tree) { tr["a"] = F("3") },
		"swapped":   func(tr Tree) { tr["a"], tr["b"] = tr["b"], tr["a"] },
		"renamed":   func(tr Tree) { tr["c"] = tr["a"]; delete(tr, "a") },
		"moved":     func(tr Tree) { tr["dir/a"] = tr["a"]; delete(tr, "a") },
		"link":      func(tr Tree) { tr["l"] = Node{Link: "b"} },
		"mode":      func(tr Tree) { tr["a"] = Node{File: true, Content: "1", Mode: 0o600} },
		"time":      func(tr Tree) { tr["a"] = Node{File: true, Content: "1", Time: moment.Add(1)} },
		"directory": func(tr Tree) { delete(tr, "dir") },
		"root mode": func(tr Tree) { tr[""] = Node{Mode: 0o700} },
	}
	digest := func(change func(Tree)) string {
		src, dst := dirs(t)
		tree := Tree{"": {}}
		for path, n := range base {
			tree[path] = n
		}
		change(tree)
		Build(t, src, tree)
		return mustCopy(t, s, src, dst).Digest
	}
	seen := map[string]string{digest(func(Tree) {}): "the original"}
	if len(seen) != 1 || seen[digest(func(Tree) {})] == "" {
		t.Error("equal volumes have different digests")
	}
	for name, change := range variants {
		d := digest(change)
		if other, ok := seen[d]; ok {
			t.Errorf("%s has the digest of %s", name, other)
		}
		seen[d] = name
	}
}
