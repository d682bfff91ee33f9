package replica_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/budgiehq/budgie/internal/testenv"
	"golang.org/x/sys/unix"

	"github.com/budgiehq/budgie/replica"
	"github.com/budgiehq/budgie/replica/replicatest"
)

// allocated returns how many bytes a file occupies.
func allocated(t *testing.T, path string) int64 {
	t.Helper()
	var st syscall.Stat_t
	if err := syscall.Lstat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Blocks * 512
}

// A file over 4 GiB, nearly all of which is a hole, arrives with its hole and
// costs what its content does; and so does a copy of it under another name.
func TestCaseV7FileOver4GiB(t *testing.T) {
	t.Parallel() // it computes most of the time
	src, dst := filepath.Join(t.TempDir(), "src"), filepath.Join(t.TempDir(), "dst")
	replicatest.Build(t, src, replicatest.Tree{"big": replicatest.F("begin")})
	big := filepath.Join(src, "big")
	const at, size = 4<<30 + 12345, 4<<30 + 1<<20
	f, err := os.OpenFile(big, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt([]byte("beyond"), at)
	if err := errors.Join(err, f.Truncate(size), f.Close(), os.Chtimes(big, time.Time{}, time.Unix(1, 0))); err != nil {
		testenv.Skip(t, "needs a file system for files over 4 GiB: "+err.Error())
	}
	report, _, err := replicatest.Copy(t.Context(), replica.New(), src, dst)
	if err != nil {
		t.Fatal(err)
	}
	if report.Bytes != size || report.Transferred > 64<<10 {
		t.Errorf("got %+v", report)
	}
	copied := filepath.Join(dst, "big")
	if n := allocated(t, copied); n > 1<<20 {
		t.Errorf("the copy occupies %d bytes", n)
	}
	c, err := os.Open(copied)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if info, err := c.Stat(); err != nil || info.Size() != size || !info.ModTime().Equal(time.Unix(1, 0)) {
		t.Errorf("the copy is %v, %v", info, err)
	}
	for off, want := range map[int64]string{0: "begin\x00", at - 1: "\x00beyond\x00"} {
		got := make([]byte, len(want))
		if _, err := c.ReadAt(got, off); err != nil || string(got) != want {
			t.Errorf("at %d: %q, %v", off, got, err)
		}
	}
}

// A file that is copied within the copy keeps its holes.
func TestHolesSurviveARename(t *testing.T) {
	src, dst := filepath.Join(t.TempDir(), "src"), filepath.Join(t.TempDir(), "dst")
	replicatest.Build(t, src, replicatest.Tree{"a": replicatest.F("begin"), "b": replicatest.F("")})
	if err := os.Truncate(filepath.Join(src, "a"), 16<<20); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "c"} {
		if name != "a" {
			if err := os.Rename(filepath.Join(src, "a"), filepath.Join(src, name)); err != nil {
				t.Fatal(err)
			}
		}
		report, _, err := replicatest.Copy(t.Context(), replica.New(), src, dst)
		if err != nil {
			t.Fatal(err)
		}
		if n := allocated(t, filepath.Join(dst, name)); n > 1<<20 {
			t.Errorf("%s occupies %d bytes", name, n)
		}
		if name == "c" && report.Transferred != 0 {
			t.Errorf("%d bytes were sent for a rename", report.Transferred)
		}
	}
}

// rsyncDiff returns what rsync would do to make dst what src is.
func rsyncDiff(t *testing.T, src, dst string) string {
	t.Helper()
	rsync, err := exec.LookPath("rsync")
	if err != nil {
		testenv.Skip(t, "needs rsync: apt-get install rsync")
	}
	// Nanoseconds and contents, which rsync by itself takes no look at.
	cmd := exec.CommandContext(t.Context(), rsync, "-aHAXn", "--delete", "--itemize-changes", "--checksum", "--modify-window=-1", src+"/", dst+"/")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, out)
	}
	return string(out)
}

// richTree has some of everything that a volume can have and this user make.
func richTree() replicatest.Tree {
	tree := replicatest.Tree{
		"":           {Mode: 0o750},
		"file":       replicatest.F("content"),
		"empty":      replicatest.F(""),
		"dir/sub":    {Mode: 0o700, Time: time.Unix(5, 6)},
		"dir/sub/in": {File: true, Content: "in", Mode: 0o604},
		"dir/link":   {Link: "sub/in", Time: time.Unix(7, 8)},
		"dir/again":  {HardLink: "file"},
		"zz\xff\n":   {HardLink: "file"},
		"attributes": {File: true, Xattrs: map[string]string{"user.a": "1", "user.b": "\x00"}},
		"attributed": {Xattrs: map[string]string{"user.dir": "1"}},
	}
	if os.Geteuid() != 0 {
		return tree
	}
	for path, n := range tree {
		if n.HardLink == "" {
			n.UID, n.GID = 1000+len(path), 2000+len(path)
			tree[path] = n
		}
	}
	tree["setuid"] = replicatest.Node{File: true, Content: "x", Mode: 0o755 | os.ModeSetuid, UID: 3, Xattrs: map[string]string{"trusted.t": "1"}}
	tree["setgid"] = replicatest.Node{Mode: 0o775 | os.ModeSetgid, GID: 4}
	return tree
}

// rsync, asked what it would still have to do, knows of nothing; for trees that
// become others, with access control lists and capabilities as their own tools
// set them.
func TestCaseV7RsyncFindsNoDifference(t *testing.T) {
	src, dst := filepath.Join(t.TempDir(), "src"), filepath.Join(t.TempDir(), "dst")
	replicatest.Build(t, src, richTree())
	tools := [][]string{
		{"setfacl", "-m", "u:1:rwx,g:2:r", filepath.Join(src, "file")},
		{"setfacl", "-d", "-m", "u:12:rx", filepath.Join(src, "dir")},
		{"setfattr", "-n", "user.tool", "-v", "1", filepath.Join(src, "dir/sub/in")},
	}
	for _, tool := range tools {
		if _, err := exec.LookPath(tool[0]); err != nil {
			testenv.Skip(t, "needs "+tool[0]+": apt-get install acl attr")
		}
		if out, err := exec.Command(tool[0], tool[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", tool, err, out)
		}
	}
	if diff := rsyncDiff(t, src, t.TempDir()); strings.Count(diff, "\n") < 10 {
		t.Fatalf("rsync sees no difference to an empty directory: %s", diff)
	}
	copyAndAsk := func(what string) {
		t.Helper()
		if _, _, err := replicatest.Copy(t.Context(), replica.New(), src, dst); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if diff := rsyncDiff(t, src, dst); diff != "" {
			t.Errorf("%s: rsync would still do:\n%s", what, diff)
		}
	}
	copyAndAsk("first copy")
	for _, tool := range [][]string{
		{"setfacl", "-x", "u:1", filepath.Join(src, "file")},
		{"setfacl", "-k", filepath.Join(src, "dir")},
		{"setfattr", "-x", "user.tool", filepath.Join(src, "dir/sub/in")},
	} {
		if out, err := exec.Command(tool[0], tool[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", tool, err, out)
		}
	}
	copyAndAsk("less of everything")
	seed := int(time.Now().UnixNano() % 1_000_000)
	t.Logf("trees of the seeds %d to %d", seed, seed+14)
	for i := seed; i < seed+15; i++ {
		replicatest.Build(t, src, treeOf(i))
		copyAndAsk(fmt.Sprintf("tree %d", i))
	}
}

// A time that does not fit into what is carried is the nearest that does, and does not keep
// the volume from being copied, also when the file changes.
func TestTimesBeyondWhatIsCarried(t *testing.T) {
	far := time.Date(2300, 1, 1, 0, 0, 0, 0, time.UTC)
	l := newLink(t, replicatest.Tree{"f": replicatest.F("f"), "large": replicatest.F(noise(1, 200_000))})
	setFar := func(name string) error { // os.Chtimes has no such times
		at := unix.Timespec{Sec: far.Unix()}
		return unix.UtimesNanoAt(unix.AT_FDCWD, filepath.Join(l.src, name), []unix.Timespec{at, at}, 0)
	}
	must(t, setFar("f"), setFar("large"))
	if info, err := os.Stat(filepath.Join(l.src, "f")); err != nil || !info.ModTime().Equal(far) {
		t.Skipf("this file system has no such times: %v, %v", info.ModTime(), err)
	}
	copied := func(large string) {
		t.Helper()
		l.until(t, "the copy", func(s replica.FollowState) bool {
			got, err := os.ReadFile(filepath.Join(l.dst, "large"))
			return err == nil && string(got) == large && s.Phase == replica.Synced
		})
	}
	l.start(t)
	copied(noise(1, 200_000))
	if info, err := os.Stat(filepath.Join(l.dst, "f")); err != nil || info.ModTime().Year() != 2262 {
		t.Errorf("the copy's time is %v, %v", info.ModTime(), err)
	}
	changed := noise(1, 200_000)[:199_999] + "x"
	write(t, l.src, "new", changed)
	must(t, setFar("new"), os.Rename(filepath.Join(l.src, "new"), filepath.Join(l.src, "large")))
	copied(changed)
}
