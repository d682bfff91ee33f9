package bunfile

import (
	"iter"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

var plainKey = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]{0,60}$`)

// keyPath returns the path of a key of the mapping at parent, which is empty
// for the whole document.
func keyPath(parent, key string) string {
	switch {
	case !plainKey.MatchString(key):
		return parent + "[" + quote(key) + "]"
	case parent == "":
		return key
	}
	return parent + "." + key
}

func indexPath(parent string, i int) string { return parent + "[" + strconv.Itoa(i) + "]" }

// parentPath returns the path of the value that holds the value at path. It
// takes the keys of labels as they come, quotes and brackets included: the
// worst that a strange key does is to point at the mapping instead of at it.
func parentPath(path string) string {
	return path[:max(0, strings.LastIndexAny(path, ".["))]
}

func sortedMap(m map[string]string) iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for _, key := range slices.Sorted(maps.Keys(m)) {
			if !yield(key, m[key]) {
				return
			}
		}
	}
}
