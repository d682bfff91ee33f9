package store

import "fmt"

// MaxOwnerLen is the longest owner name, in bytes. It leaves room for a suffix
// within the 255 bytes that file systems allow for a name.
const MaxOwnerLen = 128

// CheckOwner returns nil if name can be an owner name: 1 to MaxOwnerLen ASCII
// letters, digits and hyphens. Otherwise it returns an ErrInvalid that says
// what is wrong. Stores call it, so that a name that one of them takes is good
// for all.
func CheckOwner(name string) error {
	if name == "" || len(name) > MaxOwnerLen {
		return fmt.Errorf("owner name %.20q has %d bytes: %w: use 1 to %d letters, digits and hyphens",
			name, len(name), ErrInvalid, MaxOwnerLen)
	}
	for _, r := range name {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-':
		default:
			return fmt.Errorf("owner name %q contains %q: %w: use 1 to %d letters, digits and hyphens",
				name, r, ErrInvalid, MaxOwnerLen)
		}
	}
	return nil
}
