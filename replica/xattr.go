package replica

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Extended attributes travel and are kept in memory in one string, sorted by
// name: per attribute length of the name (1 byte), name, length of the value
// (2), value.

// maxXattrs is how long the attributes of an entry may be in all: so long that
// the entry, with the longest path, still fits in a frame.
const maxXattrs = 56 << 10

// unknownXattrs stands for the attributes of what was not looked at, or has more
// than is carried. No entry has them.
const unknownXattrs = "?"

// The attributes that have a meaning of their own.
const (
	aclAccess  = "system.posix_acl_access"
	aclDefault = "system.posix_acl_default"
	capability = "security.capability"
)

// errXattrsTooLong: more than fits in a frame.
var errXattrsTooLong = fmt.Errorf("extended attributes of more than %d bytes, which is more than is carried", maxXattrs)

// xattrKind says what must be kept to keep an attribute; 0 means that it is
// none of a volume.
func xattrKind(name string) keeps {
	switch {
	case strings.HasPrefix(name, "user."):
		return keepUser
	case strings.HasPrefix(name, "trusted."):
		return keepTrusted
	case name == aclAccess || name == aclDefault:
		return keepACLs
	case name == capability:
		return keepCapabilities
	}
	return 0
}

// encodeXattrs puts attributes into one string.
func encodeXattrs(attrs map[string]string) (string, error) {
	var b []byte
	for _, name := range slices.Sorted(maps.Keys(attrs)) {
		if len(b)+3+len(name)+len(attrs[name]) > maxXattrs {
			return "", errXattrsTooLong
		}
		b = append(b, byte(len(name)))
		b = append(b, name...)
		b = appendText(b, attrs[name])
	}
	return string(b), nil
}

// eachXattr calls f for the attributes in order, until f returns false. It
// returns an error for what is not encoded as it should be.
func eachXattr(encoded string, f func(name, value string) bool) error {
	for rest := encoded; rest != ""; {
		n := 1 + int(rest[0])
		if len(rest) < n+2 {
			return errors.New("extended attributes cut off")
		}
		name := rest[1:n]
		end := n + 2 + int(rest[n])<<8 + int(rest[n+1])
		if len(rest) < end {
			return errors.New("extended attributes cut off")
		}
		if !f(name, rest[n+2:end]) {
			return nil
		}
		rest = rest[end:]
	}
	return nil
}

// decodeXattrs returns the attributes by name. They must have been checked.
func decodeXattrs(encoded string) map[string]string {
	attrs := make(map[string]string)
	_ = eachXattr(encoded, func(name, value string) bool {
		attrs[name] = value
		return true
	})
	return attrs
}

// checkXattrs says what is wrong with the attributes of an entry.
func checkXattrs(encoded string, k kind) error {
	switch {
	case encoded == "":
		return nil
	case len(encoded) > maxXattrs:
		return errXattrsTooLong
	}
	last := ""
	var wrong error
	err := eachXattr(encoded, func(name, _ string) bool {
		switch {
		case xattrKind(name) == 0 || name == "user." || name == "trusted." || strings.IndexByte(name, 0) >= 0:
			wrong = fmt.Errorf("%q is no extended attribute of a volume", name)
		case name <= last:
			wrong = fmt.Errorf("extended attribute %q after %q is out of order", name, last)
		case name == aclDefault && k != kindDir:
			wrong = fmt.Errorf("a %s has no %s", k, name)
		}
		last = name
		return wrong == nil
	})
	return errors.Join(err, wrong)
}

// xattrKinds says what must be kept to keep all of the attributes.
func xattrKinds(encoded string) (all keeps) {
	_ = eachXattr(encoded, func(name, _ string) bool {
		all |= xattrKind(name)
		return true
	})
	return all
}

// onlyXattrs returns those of the attributes that k keeps.
func onlyXattrs(encoded string, k keeps) string {
	if xattrKinds(encoded)&^k == 0 {
		return encoded
	}
	attrs := decodeXattrs(encoded)
	maps.DeleteFunc(attrs, func(name, _ string) bool { return xattrKind(name)&^k != 0 })
	kept, _ := encodeXattrs(attrs) // it cannot have become longer
	return kept
}

// differentXattr names an attribute by which two entries differ, for people.
func differentXattr(a, b string) string {
	left, right := decodeXattrs(a), decodeXattrs(b)
	for _, name := range slices.Sorted(maps.Keys(left)) {
		if value, ok := right[name]; !ok {
			return name + " is missing"
		} else if value != left[name] {
			return name + " has another value"
		}
	}
	for _, name := range slices.Sorted(maps.Keys(right)) {
		if _, ok := left[name]; !ok {
			return name + " should not be there"
		}
	}
	return "none"
}
