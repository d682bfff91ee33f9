package replica

import (
	"bytes"
	"errors"
	"io"
	"path/filepath"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// rapidManifest draws the list of a volume of a few names, some of them below a
// directory, which is there when it has any.
func rapidManifest(t *rapid.T, label string) *manifest {
	m := &manifest{keeps: keepAll}
	add := func(e entry) {
		if err := m.add(e); err != nil {
			t.Fatal(err)
		}
	}
	add(volume)
	below := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "c\n", "\xff"}), 0, 3, rapid.ID[string]).Draw(t, label+" below d")
	flat := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "c", "d", "e", "z"}), 0, 5, rapid.ID[string]).Draw(t, label)
	slices.Sort(below)
	slices.Sort(flat)
	content := rapid.SampledFrom([]string{"", "1", "22"})
	for _, name := range flat {
		if name != "d" {
			add(owned(file(name, content.Draw(t, label+" "+name))))
			continue
		}
		dir := volume
		dir.path = name
		add(dir)
		for _, n := range below {
			add(file(name+"/"+n, content.Draw(t, label+" d/"+n)))
		}
	}
	return m
}

// patchOf reads what a side sends of changes to a manifest.
func patchOf(from *manifest, stream []byte) (*manifest, error) {
	w := newWire(readWriter{bytes.NewReader(stream), io.Discard})
	kind, payload, err := w.read()
	if err != nil {
		return nil, err
	}
	return w.patched(from, kind, payload)
}

// changesOf is what a side sends that turns a manifest into another.
func changesOf(from, to *manifest) []byte {
	return script(func(w *wire) error {
		return errors.Join(w.difference(from, to), w.seal(to, to.digest()))
	})
}

// What is sent of changes makes the one list of the other, whatever the two are.
func TestChangesTurnOneListIntoAnother(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		from, to := rapidManifest(t, "from"), rapidManifest(t, "to")
		got, err := patchOf(from, changesOf(from, to))
		if err != nil || got.digest() != to.digest() || !slices.EqualFunc(got.entries, to.entries, func(a, b entry) bool { return a.path == b.path }) {
			t.Fatalf("got %v, %v; want %v", got, err, to)
		}
		if removed, entries := difference(to, to); len(removed)+len(entries) > 0 {
			t.Fatalf("to itself it differs by %q and %v", removed, entries)
		}
	})
}

// What a copy has in the places of further names of a file that did not come stays, with
// the names that it has.
func TestOtherNamesOfWhatDidNotCome(t *testing.T) {
	came := file("a", "changes all the time")
	m := &manifest{keeps: keepAll}
	local := newPlaces(0)
	for _, e := range []entry{volume, came, {path: "b", kind: kindHardLink, target: "a"}, {path: "c", kind: kindHardLink, target: "a"}, {path: "d", kind: kindHardLink, target: "a"}} {
		if err := m.add(e); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"b", "c"} {
		local.put(name, found{entry: file(name, "before"), node: node{file: fileID{1, 2}, links: 2}, hashed: true})
	}
	kept, err := m.without(map[digest]bool{came.digest: true}, local)
	if err != nil {
		t.Fatal(err)
	}
	want := &manifest{entries: []entry{volume, file("b", "before"), {path: "c", kind: kindHardLink, target: "b"}}}
	if kept.digest() != want.digest() {
		t.Errorf("the copy is to become %+v", kept.entries)
	}
}

// Whatever is sent as changes to a list, what comes out is a list by the rules, with
// the digest that was said.
func FuzzChangesOfLists(f *testing.F) {
	from := &manifest{keeps: keepAll, entries: []entry{volume, file("a", "1"), file("b", "2"), file("c", "3")}}
	for _, to := range [][]entry{
		from.entries,
		{volume},
		{volume, file("a", "1"), owned(file("b", "3")), {path: "l", kind: kindSymlink, target: "../x"}},
		{volume, file("a", "1"), {path: "b", kind: kindHardLink, target: "a"}, file("c", "3")},
	} {
		f.Add(changesOf(from, &manifest{keeps: keepAll, entries: to}))
	}
	f.Add(script(frameOf(frameRemoved, appendText(nil, "nothing")), frameOf(frameManifest, make([]byte, 36))))
	f.Add(script(frameOf(frameEntries, appendEntry(nil, file("../x", "1"))), frameOf(frameManifest, make([]byte, 36))))
	f.Fuzz(func(t *testing.T, stream []byte) {
		m, err := patchOf(from, stream)
		if err != nil {
			if !errors.Is(err, ErrProtocol) && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				if _, ok := errors.AsType[*remoteError](err); !ok {
					t.Errorf("want ErrProtocol, got %v", err)
				}
			}
			return
		}
		if sum := m.digest(); !bytes.Contains(stream, sum[:]) {
			t.Errorf("nobody said that the digest is %x", sum)
		}
		again := &manifest{keeps: keepAll}
		for _, e := range m.entries {
			if err := again.add(e); err != nil || e.path != "" && !filepath.IsLocal(e.path) {
				t.Errorf("%q is in the list: %v", e.path, err)
			}
		}
	})
}
