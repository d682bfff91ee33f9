package replicatest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/budgiehq/budgie/internal/testenv"
	"github.com/budgiehq/budgie/replica"
)

// acl is an access control list as Linux has it, version 2: that of a mode of
// 0640, and for one user more the right to read.
func acl(user byte) string {
	return "\x02\x00\x00\x00" +
		"\x01\x00\x06\x00\xff\xff\xff\xff" + "\x02\x00\x04\x00" + string([]byte{user, 0, 0, 0}) +
		"\x04\x00\x04\x00\xff\xff\xff\xff" + "\x10\x00\x04\x00\xff\xff\xff\xff" + "\x20\x00\x00\x00\xff\xff\xff\xff"
}

// netRaw is the capability CAP_NET_RAW, permitted and effective.
var netRaw = "\x01\x00\x00\x02" + "\x00\x20\x00\x00" + strings.Repeat("\x00", 12)

// mustKeepAll copies, and checks that nothing is reported as not kept.
func mustKeepAll(t *testing.T, s Syncer, src, dst string) replica.Report {
	t.Helper()
	report := mustCopy(t, s, src, dst)
	if len(report.NotKept) != 0 {
		t.Errorf("NotKept = %q", report.NotKept)
	}
	return report
}

// testOwners: root gives files away, and anybody else cannot.
func testOwners(t *testing.T, s Syncer) {
	if os.Geteuid() != 0 {
		testOwnersOfPlainUser(t, s)
		return
	}
	src, dst := dirs(t)
	const setID = fs.ModeSetuid | fs.ModeSetgid
	Build(t, src, Tree{
		"":       {UID: 1000, GID: 1001, Mode: 0o755 | fs.ModeSetgid},
		"file":   {File: true, Content: "1", UID: 1, GID: 2, Mode: 0o640},
		"dir":    {UID: 12345, GID: 1<<32 - 2, Mode: 0o770},
		"dir/in": {File: true, Content: "2", UID: 1000},
		"link":   {Link: "file", UID: 3, GID: 4},
		"nobody": {Link: "nowhere", UID: 65534, GID: 65534},
		"setuid": {File: true, Content: "3", UID: 1, GID: 1, Mode: 0o755 | setID},
		"plain":  {File: true, Content: "4", UID: 1, GID: 1},
		"tmp":    {Mode: 0o777 | fs.ModeSticky | setID, GID: 5},
		"sticky": {File: true, Content: "5", Mode: 0o644 | fs.ModeSticky},
	})
	mustKeepAll(t, s, src, dst)
	// The same content, other owners and bits.
	for path, n := range map[string]Node{
		"":       {UID: 1},
		"file":   {File: true, UID: 2, GID: 2, Mode: 0o755 | setID},
		"dir":    {UID: 1, GID: 1, Mode: 0o755 | fs.ModeSetgid},
		"link":   {Link: "file", UID: 5, GID: 6},
		"setuid": {File: true, UID: 2, GID: 1, Mode: 0o755},
		"plain":  {File: true, UID: 1, GID: 1, Mode: 0o755 | fs.ModeSetgid},
	} {
		if err := dress(filepath.Join(src, path), n); err != nil {
			t.Fatal(err)
		}
	}
	if report := mustKeepAll(t, s, src, dst); report.Transferred != 0 {
		t.Errorf("%d bytes were sent for other owners", report.Transferred)
	}
	// Another content, the same owners.
	if err := os.WriteFile(filepath.Join(src, "plain"), []byte("other"), 0); err != nil {
		t.Fatal(err)
	}
	mustKeepAll(t, s, src, dst)
}

// testOwnersOfPlainUser: what only root can set is left out, and that is said.
func testOwnersOfPlainUser(t *testing.T, s Syncer) {
	src, dst := dirs(t)
	Build(t, src, Tree{"program": {File: true, Content: "1", Mode: 0o755 | fs.ModeSetuid}, "plain": F("2")})
	// A copy that somebody wrote to has no such bits in the end either.
	Build(t, dst, Tree{"plain": {File: true, Content: "2", Mode: 0o755 | fs.ModeSetuid}})
	sent, received, err := Copy(t.Context(), s, src, dst)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"program", "plain"} {
		if info, err := os.Stat(filepath.Join(dst, name)); err != nil || info.Mode()&fs.ModeSetuid != 0 {
			t.Errorf("%s: set-user-ID without the owner: %v, %v", name, info, err)
		}
	}
	if len(sent.NotKept) == 0 || fmt.Sprint(sent.NotKept) != fmt.Sprint(received.NotKept) {
		t.Errorf("NotKept of the sender: %q, of the receiver: %q", sent.NotKept, received.NotKept)
	}
	if sent.Digest != received.Digest {
		t.Errorf("digests: sender %q, receiver %q", sent.Digest, received.Digest)
	}
}

func testXattrs(t *testing.T, s Syncer) {
	if runtime.GOOS != "linux" {
		testenv.Skip(t, "extended attributes are carried on Linux alone")
	}
	src, dst := dirs(t)
	file, dir := map[string]string{"user.mime": "text/plain", "user.empty": "", "user.binary": "\x00\xff\n"}, map[string]string{"user.dir": "1"}
	long := map[string]string{"user.long": strings.Repeat("x", 3000)}
	Build(t, src, Tree{"": {Xattrs: dir}, "file": {File: true, Content: "1", Xattrs: file}, "locked": {File: true, Mode: 0o444, Xattrs: file},
		"dir": {Mode: 0o555, Xattrs: dir}, "long": {File: true, Xattrs: long}, "none": F("2")})
	if err := setXattrs(filepath.Join(src, "file"), map[string]string{"user.probe": "1"}); err != nil {
		testenv.Skip(t, "needs a file system with extended attributes: "+err.Error())
	}
	mustKeepAll(t, s, src, dst)
	acls := map[string]string{"system.posix_acl_access": acl(1)}
	more := Tree{
		"acl":         {File: true, Content: "1", Mode: 0o640, Xattrs: acls},
		"acl dir":     {Xattrs: map[string]string{"system.posix_acl_default": acl(1), "system.posix_acl_access": acl(2)}, Mode: 0o750},
		"acl dir/sub": {File: true, Content: "2"},
	}
	if os.Geteuid() == 0 {
		more["capable"] = Node{File: true, Content: "3", Mode: 0o755, UID: 1, Xattrs: map[string]string{"security.capability": netRaw, "trusted.x": "1"}}
		more["trusted"] = Node{Xattrs: map[string]string{"trusted.dir": "1"}}
	}
	Build(t, src, more)
	mustKeepAll(t, s, src, dst)
	// The same content, other attributes; with other owners, which take
	// capabilities away.
	for path, n := range more {
		if _, ok := n.Xattrs["security.capability"]; ok {
			n.UID = 2
		}
		for name := range n.Xattrs {
			if strings.HasPrefix(name, "system.") {
				n.Xattrs[name] = acl(7)
			}
		}
		if err := dress(filepath.Join(src, path), n); err != nil {
			t.Fatal(err)
		}
	}
	if err := replaceXattrs(filepath.Join(src, "acl dir"), dir); err != nil {
		t.Fatal(err)
	}
	if report := mustKeepAll(t, s, src, dst); report.Transferred != 0 {
		t.Errorf("%d bytes were sent for other attributes", report.Transferred)
	}
	// What is in the copy and not in the source goes.
	err := errors.Join(setXattrs(filepath.Join(dst, "acl"), file), setXattrs(filepath.Join(dst, "acl dir"), dir))
	if err != nil {
		t.Fatal(err)
	}
	mustKeepAll(t, s, src, dst)
}

// linkShapes are volumes of the same names, which are files in other
// combinations.
var linkShapes = map[string]Tree{
	"one":      {"a": F("1"), "b": {HardLink: "a"}, "d/c": {HardLink: "a"}},
	"apart":    {"a": F("1"), "b": F("1"), "d/c": F("1")},
	"two":      {"a": F("1"), "b": {HardLink: "a"}, "d/c": F("1")},
	"last two": {"a": F("1"), "b": F("1"), "d/c": {HardLink: "b"}},
	"ends":     {"a": F("1"), "b": F("1"), "d/c": {HardLink: "a"}},
	"changed":  {"a": F("1"), "b": F("2"), "d/c": {HardLink: "b"}},
	"modes":    {"a": {File: true, Content: "1", Mode: 0o600}, "b": F("1"), "d/c": {HardLink: "a"}},
	"fewer":    {"b": F("1"), "d/c": {HardLink: "b"}},
	"earlier":  {"A": F("1"), "a": {HardLink: "A"}, "b": {HardLink: "A"}, "d/c": {HardLink: "A"}},
	"moved":    {"e/x": F("1"), "e/y": {HardLink: "e/x"}, "f": {HardLink: "e/x"}},
	"swapped":  {"a": F("2"), "b": F("1"), "d/c": {HardLink: "a"}},
	"kinds":    {"a": {Link: "b"}, "b/x": F("1"), "d": {HardLink: "b/x"}},
	"larger":   {"a": F("1"), "b": {HardLink: "a"}, "d/c": {HardLink: "a"}, "d/d": {HardLink: "a"}, "e": F("1")},
}

func testHardLinks(t *testing.T, s Syncer) {
	for _, hub := range []string{"one", "ends"} {
		t.Run(hub, func(t *testing.T) {
			src, dst := dirs(t)
			for name, shape := range linkShapes {
				for step, tree := range map[string]Tree{"to": shape, "back from": linkShapes[hub]} {
					Build(t, src, tree)
					mustKeepAll(t, s, src, dst)
					if t.Failed() {
						t.Fatalf("%s %s", step, name)
					}
				}
			}
			if again := mustKeepAll(t, s, src, dst); again.Transferred != 0 || again.Removed != 0 {
				t.Errorf("nothing changed, but the next copy reports %+v", again)
			}
		})
	}
}

// testHoles: what a file does not occupy at the source it does not in the copy.
func testHoles(t *testing.T, s Syncer) {
	src, dst := dirs(t)
	const size = 8 << 20
	Build(t, src, Tree{"holes": F("begin"), "all hole": F("")})
	f, err := os.OpenFile(filepath.Join(src, "holes"), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt([]byte("middle"), size/2+5)
	if err := errors.Join(err, f.Truncate(size), f.Close(), os.Truncate(filepath.Join(src, "all hole"), size)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"holes", "all hole"} {
		if n, ok := allocated(t, filepath.Join(src, name)); !ok || n > size/4 {
			testenv.Skip(t, "needs a file system with sparse files")
		}
	}
	mustKeepAll(t, s, src, dst)
	for _, name := range []string{"holes", "all hole"} {
		if n, _ := allocated(t, filepath.Join(dst, name)); n > size/4 {
			t.Errorf("%s: %d bytes of %d are allocated in the copy", name, n, size)
		}
	}
}
