package torture

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/budgiehq/budgie/replica"
)

// What is kept of what the source replaced gives way where it fills the disk.
func TestCaseV2DiskFullOfWhatIsKeptConverges(t *testing.T) {
	base := t.TempDir()
	place := filepath.Join(base, "place")
	mount(t, place, "size=8M")
	k := keep(t, filepath.Join(base, "source"), filepath.Join(place, "copy"))
	for i := range 5 {
		put(t, k.src, "large", fmt.Sprint(i, strings.Repeat("x", 3<<20)))
		k.equal(t)
	}
}

// Files that the source removes make room in a copy whose file system has no inode
// left to keep them by.
func TestCaseV2InodesExhaustedConverges(t *testing.T) {
	base := t.TempDir()
	place := filepath.Join(base, "place")
	mount(t, place, "size=8M,nr_inodes=60")
	k := keep(t, filepath.Join(base, "source"), filepath.Join(place, "copy"), replica.WithMaxLoss(0))
	for i := range 70 {
		put(t, k.src, fmt.Sprint("dir/", i), fmt.Sprint(i))
	}
	k.fails(t, "no space left")
	for i := range 40 {
		must(t, os.Remove(filepath.Join(k.src, fmt.Sprint("dir/", i))))
		put(t, k.src, fmt.Sprint("dir/", 40+i%30), fmt.Sprint("changed", i))
	}
	k.equal(t)
	for i := range 30 {
		must(t, os.Remove(filepath.Join(k.src, fmt.Sprint("dir/", 40+i))))
		put(t, k.src, fmt.Sprint("other/", i), fmt.Sprint("new", i))
	}
	k.equal(t)
}

// The same for a copy that never was complete, of which nothing is known.
func TestCaseV2InodesExhaustedByTheFirstCopyConverges(t *testing.T) {
	base := t.TempDir()
	place := filepath.Join(base, "place")
	mount(t, place, "size=8M,nr_inodes=60")
	src := filepath.Join(base, "source")
	for i := range 70 {
		put(t, src, fmt.Sprint("dir/", i), fmt.Sprint(i))
	}
	k := keep(t, src, filepath.Join(place, "copy"), replica.WithMaxLoss(0))
	k.fails(t, "trying what can be kept", "no space left")
	for i := range 40 {
		must(t, os.Remove(filepath.Join(src, fmt.Sprint("dir/", i))))
	}
	k.equal(t)
}
