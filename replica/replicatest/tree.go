package replicatest

import (
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// Node is an entry of a Tree: a link where Link is set, another name of a file
// where HardLink is, a file where File is true, a directory otherwise.
type Node struct {
	// Mode are the permission, set-ID and sticky bits of files and directories; 0
	// means 0644 and 0755.
	Mode fs.FileMode
	// File makes the entry a regular file.
	File bool
	// Content is a file's.
	Content string
	// Link is a symbolic link's target.
	Link string
	// HardLink is the path of the file that this is another name of. All else is
	// said there.
	HardLink string
	// Time is when it was modified; the zero value means a fixed moment in the
	// past.
	Time time.Time
	// UID and GID are the owner and group, which only root can give: 0 means
	// those who make it.
	UID, GID int
	// Xattrs are extended attributes of a file or directory, by full name. On
	// other systems than Linux there are none.
	Xattrs map[string]string
}

// F is a file with a content.
func F(content string) Node { return Node{File: true, Content: content} }

// Tree describes a volume by slash-separated paths, "" being the volume
// itself. Parents need no entry.
type Tree map[string]Node

// moment is the modification time of nodes without one. Its nanoseconds show
// whether they are carried.
var moment = time.Date(2024, 2, 29, 12, 30, 15, 123456789, time.UTC)

// Build makes dir what tree says, in place of whatever was there.
func Build(t testing.TB, dir string, tree Tree) {
	t.Helper()
	if err := build(dir, tree); err != nil {
		t.Fatal(err)
	}
}

func build(dir string, tree Tree) (err error) {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	paths := slices.Sorted(maps.Keys(tree))
	for _, p := range paths {
		n, full := tree[p], filepath.Join(dir, filepath.FromSlash(p))
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			return err
		}
		var err error
		switch {
		case n.HardLink != "":
		case n.Link != "":
			err = os.Symlink(n.Link, full)
		case n.File:
			err = os.WriteFile(full, []byte(n.Content), 0o600)
		default:
			err = os.MkdirAll(full, 0o755)
		}
		if err != nil {
			return err
		}
	}
	for _, p := range paths {
		if n := tree[p]; n.HardLink != "" {
			if err := os.Link(filepath.Join(dir, filepath.FromSlash(n.HardLink)), filepath.Join(dir, filepath.FromSlash(p))); err != nil {
				return err
			}
		}
	}
	if _, ok := tree[""]; !ok {
		defer func() {
			if err == nil {
				err = dress(dir, Node{})
			}
		}()
	}
	// Backwards, since a new entry changes the time of its directory, and a
	// mode may forbid to make one.
	for _, p := range slices.Backward(paths) {
		if n := tree[p]; n.HardLink == "" {
			if err := dress(filepath.Join(dir, filepath.FromSlash(p)), n); err != nil {
				return err
			}
		}
	}
	return nil
}

// dress gives a node all but its content.
func dress(path string, n Node) error {
	if n.Time.IsZero() {
		n.Time = moment
	}
	if n.Mode == 0 && n.File {
		n.Mode = 0o644
	} else if n.Mode == 0 {
		n.Mode = 0o755
	}
	if n.UID != 0 || n.GID != 0 {
		if err := os.Lchown(path, n.UID, n.GID); err != nil {
			return err
		}
	}
	if n.Link != "" {
		return setLinkTime(path, n.Time)
	}
	if err := setXattrs(path, n.Xattrs); err != nil {
		return err
	}
	if err := os.Chmod(path, n.Mode); err != nil {
		return err
	}
	return os.Chtimes(path, n.Time, n.Time)
}

// Diff says how directory b differs from a in what a volume consists of, or
// returns "". It shares no code with any syncer. Special files do not count.
func Diff(a, b string) string {
	left, err := describe(a)
	if err != nil {
		return err.Error()
	}
	right, err := describe(b)
	if err != nil {
		return err.Error()
	}
	var diff []string
	for _, p := range slices.Sorted(maps.Keys(left)) {
		switch other, ok := right[p]; {
		case !ok:
			diff = append(diff, fmt.Sprintf("%q is missing", p))
		case other != left[p]:
			diff = append(diff, fmt.Sprintf("%q: %.200s instead of %.200s", p, other, left[p]))
		}
	}
	for _, p := range slices.Sorted(maps.Keys(right)) {
		if _, ok := left[p]; !ok {
			diff = append(diff, fmt.Sprintf("%q is too much", p))
		}
	}
	return strings.Join(diff, "; ")
}

// describe puts everything that counts of every entry into words, by path.
func describe(dir string) (map[string]string, error) {
	words := make(map[string]string)
	names := make(map[string]string) // of files, the first one
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		owner, file := identify(info)
		what := fmt.Sprintf("%v of %s %d", info.Mode(), owner, info.ModTime().UnixNano())
		switch info.Mode().Type() {
		case fs.ModeSymlink:
			target, err := os.Readlink(path)
			words[rel] = what + " link to " + target
			return err
		case 0:
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			what += fmt.Sprintf(" file %d %s", len(content), content)
			if first, ok := names[file]; ok && file != "" {
				what += fmt.Sprintf(" also %q", first)
			} else {
				names[file] = rel
			}
		case fs.ModeDir:
		default:
			return nil
		}
		attrs, err := xattrsOf(path)
		words[rel] = what + fmt.Sprintf(" %q", attrs)
		return err
	})
	return words, err
}

// contents returns the content of every file in a directory, by path.
func contents(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	all := make(map[string][]byte)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		all[rel], err = os.ReadFile(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// oldOrNew says which files of got are neither as in old nor as in new, or
// missing though they are in both.
func oldOrNew(got, old, new map[string][]byte) []string {
	var wrong []string
	for p, content := range got {
		o, inOld := old[p]
		n, inNew := new[p]
		if !(inOld && bytes.Equal(content, o) || inNew && bytes.Equal(content, n)) {
			wrong = append(wrong, fmt.Sprintf("%q is neither old nor new", p))
		}
	}
	for p := range old {
		_, inNew := new[p]
		if _, there := got[p]; inNew && !there {
			wrong = append(wrong, fmt.Sprintf("%q is gone", p))
		}
	}
	slices.Sort(wrong)
	return wrong
}
