package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// Each change is what its name says, and no more.
func TestChanges(t *testing.T) {
	tr, err := grow(filepath.Join(t.TempDir(), "tree"), 3000, 64, 5000)
	if err != nil {
		t.Fatal(err)
	}
	read := func() []byte {
		b, err := os.ReadFile(tr.bigName())
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	before := read()
	if err := tr.oneByte(); err != nil {
		t.Fatal(err)
	}
	changed := 0
	for i, b := range read() {
		if b != before[i] {
			changed++
		}
	}
	if changed != 1 {
		t.Errorf("%d bytes changed", changed)
	}
	before = read()
	if err := tr.insert(); err != nil {
		t.Fatal(err)
	}
	if after := read(); len(after) != 5100 || !bytes.Equal(after[:2500], before[:2500]) || !bytes.Equal(after[2600:], before[2500:]) {
		t.Errorf("there are %d bytes", len(after))
	}
	for range 3 { // whatever the directory's name is
		if err := tr.rename(); err != nil {
			t.Fatal(err)
		}
		if err := tr.touchMany(); err != nil {
			t.Fatal(err)
		}
	}
}
