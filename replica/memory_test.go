package replica

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// Whoever is killed while the memory is stored leaves nothing that stays.
func TestHalfAMemoryIsReplaced(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "copy.index")
	write(t, name+".new", "half of")
	m := &manifest{}
	for _, e := range []entry{volume, file("a", "1")} {
		if err := m.add(e); err != nil {
			t.Fatal(err)
		}
	}
	unseen := map[string]entry{"dir/b": file("dir/b", "2"), "l": {path: "l", kind: kindSymlink, target: "a"}}
	if err := (&memory{m: m, unseen: unseen}).store(name); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 || entries[0].Name() != "copy.index" {
		t.Errorf("there is %v, %v", entries, err)
	}
	mem, err := loadMemory(name)
	if err != nil || !slices.Equal(mem.m.entries, m.entries) || !maps.Equal(mem.unseen, unseen) {
		t.Errorf("got %+v, %v", mem, err)
	}
}

// What came after half a digest was noted, as on a full disk, counts all the same.
func TestHalfANoteIsDropped(t *testing.T) {
	b := &beside{dir: filepath.Join(t.TempDir(), "copy")}
	first, second := digest{1}, digest{2}
	for _, err := range []error{b.expect([]digest{first, {3}}), os.Truncate(b.ours(), 32+5), b.expect([]digest{second})} {
		if err != nil {
			t.Fatal(err)
		}
	}
	ours, noted, err := b.expected()
	if err != nil || !noted || len(ours) != 2 || !ours[first] || !ours[second] {
		t.Errorf("noted %t, %v, %v", noted, ours, err)
	}
}
