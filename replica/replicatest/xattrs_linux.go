package replicatest

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// xattrsOf returns the extended attributes that belong to a volume.
func xattrsOf(path string) (map[string]string, error) {
	buf := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, buf)
	if errors.Is(err, unix.ENOTSUP) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("listxattr %s: %w", path, err)
	}
	names := strings.Split(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00")
	attrs := make(map[string]string)
	for _, name := range names {
		if !carried(name) {
			continue
		}
		n, err := unix.Lgetxattr(path, name, buf)
		if err != nil {
			return nil, fmt.Errorf("getxattr %s %s: %w", path, name, err)
		}
		attrs[name] = string(buf[:n])
	}
	return attrs, nil
}

func carried(name string) bool {
	return strings.HasPrefix(name, "user.") || strings.HasPrefix(name, "trusted.") ||
		slices.Contains([]string{"system.posix_acl_access", "system.posix_acl_default", "security.capability"}, name)
}

// setXattrs gives a file or directory attributes.
func setXattrs(path string, attrs map[string]string) error {
	for name, value := range attrs {
		if err := unix.Setxattr(path, name, []byte(value), 0); err != nil {
			return fmt.Errorf("setxattr %s %s: %w", path, name, err)
		}
	}
	return nil
}

// replaceXattrs gives a file or directory these attributes and no others.
func replaceXattrs(path string, attrs map[string]string) error {
	have, err := xattrsOf(path)
	if err != nil {
		return err
	}
	for name := range have {
		if _, ok := attrs[name]; !ok {
			if err := unix.Removexattr(path, name); err != nil {
				return fmt.Errorf("removexattr %s %s: %w", path, name, err)
			}
		}
	}
	return setXattrs(path, attrs)
}
