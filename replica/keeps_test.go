package replica

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func owned(e entry) entry {
	e.owner = owner{uid: 7, gid: 8, known: true}
	return e
}

func withXattrs(e entry, encoded string) entry {
	e.xattrs = encoded
	return e
}

// xattrs encodes one attribute, however wrong.
func xattrs(name, value string) string {
	return string(append([]byte{byte(len(name))}, name...)) + string([]byte{byte(len(value) >> 8), byte(len(value))}) + value
}

// richest are entries that need something kept, by what that is.
var richest = map[keeps]entry{
	keepOwners:             owned(file("a", "1")),
	keepOwners | keepSetID: owned(entry{path: "a", kind: kindDir, mode: 0o2755}),
	keepUser:               withXattrs(file("a", "1"), xattrs("user.a", "1")),
	keepTrusted:            withXattrs(file("a", "1"), xattrs("trusted.a", "")),
	keepACLs:               withXattrs(entry{path: "a", kind: kindDir}, xattrs(aclDefault, "x")),
	keepCapabilities:       withXattrs(file("a", "1"), xattrs(capability, "x")),
}

// Nothing that the receiver did not offer to keep is taken, and what the sender
// leaves out for that is told of.
func TestOnlyWhatIsKeptIsCarried(t *testing.T) {
	for needs, e := range richest {
		for _, k := range []keeps{0, keepAll &^ needs, keepAll &^ (needs & -needs)} {
			m := &manifest{keeps: k}
			if err := errors.Join(m.add(volume), m.add(e)); err == nil || !strings.Contains(err.Error(), "cannot keep") {
				t.Errorf("%v taken by a receiver that keeps %v: %v", needs, k, err)
			}
			m, left, err := listing([]*found{{entry: volume}, {entry: e}}, ability{keeps: k})
			if err != nil {
				t.Fatal(err)
			}
			if m.entries[1].needs()&^k != 0 {
				t.Errorf("%v is sent to a receiver that keeps %v", m.entries[1].needs(), k)
			}
			if lines := left.lines(); len(lines) == 0 || !strings.Contains(lines[0], `"a"`) {
				t.Errorf("%v is not kept, but the report says %q", needs, lines)
			}
		}
		m := &manifest{keeps: keepAll}
		if err := errors.Join(m.add(volume), m.add(e)); err != nil {
			t.Errorf("%v: %v", needs, err)
		}
		if e.needs() != needs {
			t.Errorf("%v needs %v", needs, e.needs())
		}
	}
}

// An owner that the receiver gives to what it makes by itself is no loss.
func TestOwnersThatComeByThemselvesAreNotMissed(t *testing.T) {
	e := owned(file("a", "1"))
	_, left, err := listing([]*found{{entry: volume}, {entry: e}}, ability{owner: e.owner})
	if err != nil || len(left.lines()) != 0 {
		t.Errorf("got %q, %v", left.lines(), err)
	}
}

func TestHostileXattrs(t *testing.T) {
	one := xattrs("user.a", "1")
	for name, encoded := range map[string]string{
		"cut off in the name":  "\x09user.a",
		"cut off in the value": one[:len(one)-1],
		"cut off after":        one + "\x01",
		"no name":              xattrs("", "1"),
		"no namespace":         xattrs("a", "1"),
		"namespace alone":      xattrs("user.", "1"),
		"SELinux":              xattrs("security.selinux", "1"),
		"other system":         xattrs("system.nfs4_acl", "1"),
		"NUL":                  xattrs("user.a\x00b", "1"),
		"twice":                one + one,
		"out of order":         xattrs("user.b", "1") + one,
		"too many":             strings.Repeat(one, maxXattrs/len(one)+1),
		"ACL for children":     xattrs(aclDefault, "1"),
		"unknown":              unknownXattrs,
	} {
		m := &manifest{keeps: keepAll}
		if err := errors.Join(m.add(volume), m.add(withXattrs(file("a", "1"), encoded))); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// The entry with the longest of everything fits in a frame.
func TestLargestEntryFitsInAFrame(t *testing.T) {
	e := withXattrs(file(strings.Repeat("x", maxPath), "1"), strings.Repeat("x", maxXattrs))
	if n := len(appendEntry(nil, e)); n > maxFrame {
		t.Errorf("it has %d bytes", n)
	}
	if _, err := encodeXattrs(map[string]string{"user.a": strings.Repeat("x", maxXattrs)}); !errors.Is(err, errXattrsTooLong) {
		t.Errorf("attributes that do not fit: %v", err)
	}
	var l leftOut
	for i := range leftPaths {
		l.add(1<<i, strings.Repeat("x", maxPath))
	}
	l.addPaths([]string{strings.Repeat("x", 2*maxFrame)})
	if n := len(l.encode()); n > maxFrame {
		t.Errorf("what is left out has %d bytes", n)
	}
}

func FuzzXattrs(f *testing.F) {
	f.Add(xattrs("user.a", "1") + xattrs("user.b", strings.Repeat("x", 300)))
	f.Add(xattrs(aclAccess, "\x02\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, encoded string) {
		if checkXattrs(encoded, kindDir) != nil {
			return
		}
		again, err := encodeXattrs(decodeXattrs(encoded))
		if err != nil || again != encoded {
			t.Errorf("%q became %q, %v", encoded, again, err)
		}
		for k := range keepAll + 1 {
			if got := onlyXattrs(encoded, k); xattrKinds(got)&^k != 0 || checkXattrs(got, kindDir) != nil {
				t.Errorf("of %q remain %q for %v", encoded, got, k)
			}
		}
	})
}

func FuzzLeftOut(f *testing.F) {
	var l leftOut
	l.add(keepOwners|keepACLs, "a")
	f.Add(l.encode())
	f.Fuzz(func(t *testing.T, payload []byte) {
		l, err := decodeLeftOut(payload)
		if err != nil {
			if !errors.Is(err, ErrProtocol) {
				t.Errorf("want ErrProtocol, got %v", err)
			}
			return
		}
		if !bytes.Equal(l.encode(), payload) {
			t.Errorf("%x became %x", payload, l.encode())
		}
		for _, line := range l.lines() {
			if strings.ContainsAny(line, "\x1b\n") {
				t.Errorf("%q is not harmless", line)
			}
		}
	})
}

// What is tried leaves nothing, and says what this user can do.
func TestProbeLeavesNoTrace(t *testing.T) {
	base := t.TempDir()
	dir := filepath.Join(base, "copy")
	if err := os.Mkdir(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	// One that was killed has left something.
	if err := os.WriteFile(filepath.Join(base, "copy"+temporaryName()), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	copied, err := openTarget(dir, openRoot)
	if err != nil {
		t.Fatal(err)
	}
	defer copied.close()
	if err := copied.try(dir, openRoot, nil); err != nil {
		t.Fatal(err)
	}
	after, err := os.Stat(dir)
	if err != nil || before.Mode() != after.Mode() || !before.ModTime().Equal(after.ModTime()) {
		t.Errorf("was %v %v, is %v %v (%v)", before.Mode(), before.ModTime(), after.Mode(), after.ModTime(), err)
	}
	for _, dir := range []string{dir, base} {
		if left, err := os.ReadDir(dir); err != nil || len(left) != 0 && left[0].Name() != "copy" || len(left) > 1 {
			t.Errorf("in %s there is %v, %v", dir, left, err)
		}
	}
	if root := os.Geteuid() == 0; root != (copied.keeps&(keepOwners|keepSetID) == keepOwners|keepSetID) {
		t.Errorf("root %t, keeps %v", root, copied.keeps)
	}
}
