package replica

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"syscall"
)

// What the sender cannot read does not keep the rest of a volume from its copies. It
// is named, and what a copy has of it stays there as it is: the receiver does not look
// at it.

// unread is what is found of something that cannot be read.
func unread(path string) *found { return &found{entry: entry{path: path, kind: kindUnread}} }

// passes reports whether an error is one of a single file or directory that a lenient
// scanner passes by.
func (s *scanner) passes(err error) bool {
	return s.lenient && (unreadable(err) || errors.Is(err, errXattrsTooLong) || errors.Is(err, errTooLarge))
}

// unreadable reports whether an error is that of a file that this user, or the disk,
// does not let be read.
func unreadable(err error) bool {
	return errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EIO)
}

// skips reports whether a lenient scanner passes by a path that no entry may have.
func (s *scanner) skips(name string) bool {
	return s.lenient && name != "" && !isTemporary(path.Base(name)) && checkPath(name) != nil
}

// complain logs what of a volume does not reach its copies, when that is something
// else than before. The caller holds looking.
func (s *source) complain(seen *sight) {
	var reasons []string
	for _, name := range seen.skipped {
		reasons = append(reasons, checkPath(name).Error())
	}
	unread := (&manifest{entries: unreadOf(seen.all)}).unreadable()
	if unread != "" {
		reasons = append(reasons, unread)
	}
	now := strings.Join(reasons[:min(len(reasons), mostUnread)], "; ")
	if now != s.complaint && now != "" {
		s.log.Warn("not all of a volume can be copied", "why", now)
	}
	s.complaint = now
}

func unreadOf(all []*found) (entries []entry) {
	for _, f := range all {
		if f.kind == kindUnread {
			entries = append(entries, f.entry)
		}
	}
	return entries
}

// errTooLarge says that a file is larger than any that is carried.
var errTooLarge = fmt.Errorf("more than %d bytes", int64(maxFileSize))

// veil returns what was found but for what m says is unreadable, with all that is
// below, which stands there as that.
func (m *manifest) veil(all []*found) []*found {
	var veiled []*found
	for _, e := range m.entries {
		if e.kind == kindUnread {
			veiled = append(veiled, unread(e.path))
		}
	}
	if veiled == nil {
		return all
	}
	hidden := make(map[string]bool, len(veiled))
	for _, f := range veiled {
		hidden[f.path] = true
	}
	for _, f := range all {
		if !below(hidden, f.path) {
			veiled = append(veiled, f)
		}
	}
	slices.SortFunc(veiled, func(a, b *found) int { return cmp.Compare(a.path, b.path) })
	return veiled
}

// unseen returns what a copy has, as its source once had it, of what m says is
// unreadable: the files and links of what was the manifest before, and of what was
// unseen then. With it, what the source has become there meanwhile is told from what
// something else wrote into the copy, once it can be read again.
func (m *manifest) unseen(was *manifest, before map[string]entry) map[string]entry {
	hidden := make(map[string]bool)
	for _, e := range m.entries {
		if e.kind == kindUnread {
			hidden[e.path] = true
		}
	}
	if len(hidden) == 0 {
		return nil
	}
	now := make(map[string]entry)
	for name, e := range before {
		if below(hidden, name) {
			now[name] = e
		}
	}
	if was == nil {
		return now
	}
	for _, e := range was.entries {
		name, e := e.path, was.resolve(e)
		if (e.kind == kindFile || e.kind == kindSymlink) && below(hidden, name) {
			now[name] = e
		}
	}
	return now
}

// below reports whether a path, or one above it, is in a set.
func below(set map[string]bool, path string) bool {
	for ; path != ""; path = parent(path) {
		if set[path] {
			return true
		}
	}
	return false
}

// mostUnread is how many paths are named to people.
const mostUnread = 5

// unreadable says in words what of a volume its sender cannot read; "" where that is
// nothing.
func (m *manifest) unreadable() string {
	n, names := m.namesOf(kindUnread)
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("its owner cannot read %d of its files or directories, and copies keep what they have of them:%s", n, names)
}

// special says in words what of a volume is nothing that a copy could have; nil where
// that is nothing.
func (m *manifest) special() []string {
	n, names := m.namesOf(kindSpecial)
	if n == 0 {
		return nil
	}
	return []string{fmt.Sprintf("sockets, devices and pipes: %d of them:%s", n, names)}
}

// namesOf counts the entries of a kind, and returns the paths of the first ones.
func (m *manifest) namesOf(k kind) (n int, names string) {
	if m == nil {
		return 0, ""
	}
	for _, e := range m.entries {
		if e.kind == k {
			if n++; n <= mostUnread {
				names += fmt.Sprintf(" %q", e.path)
			}
		}
	}
	if n > mostUnread {
		names += " …"
	}
	return n, names
}
