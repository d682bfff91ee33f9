package replica

import (
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What came into a copy that follows is read once to verify it, and what was done to it
// afterwards is found.
func TestVerifiedOnceWhileFollowing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "copy")
	to, err := openTarget(dir, openRoot)
	if err != nil {
		t.Fatal(err)
	}
	defer to.close()
	to.live = true
	content := strings.Repeat("content", 1000)
	m := &manifest{keeps: to.keeps}
	for _, e := range []entry{
		{kind: kindDir, mode: 0o700, mtime: 1e18},
		{kind: kindDir, path: "d", mode: 0o700, mtime: 1e18},
		{kind: kindFile, path: "d/f", mode: 0o600, mtime: 1e18, size: int64(len(content)), digest: sha256.Sum256([]byte(content))},
	} {
		if err := m.add(e); err != nil {
			t.Fatal(err)
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(to.index(t.Context(), m, true))
	c, err := to.create(m.entries[2])
	must(err)
	_, err = c.Write([]byte(content))
	must(err)
	must(c.accept())
	must(to.settleArrived())
	var read int64
	to.scanner.seen = func(_ int, bytes int64) { read += bytes }
	_, err = to.finish(t.Context(), m)
	must(err)
	_, err = to.verify(t.Context(), m)
	must(err)
	if read != int64(len(content)) {
		t.Errorf("%d bytes were read, of a file that has %d", read, len(content))
	}
	must(to.index(t.Context(), m, true))
	_, err = to.finish(t.Context(), m)
	must(err)
	// What a watcher says of a file that changed before it is verified is looked at.
	must(os.WriteFile(filepath.Join(dir, "d", "f"), []byte(strings.ToUpper(content)), 0o600))
	to.image.mark("d")
	if _, err := to.verify(t.Context(), m); !errors.Is(err, ErrVerify) {
		t.Errorf("a file that was changed is verified: %v", err)
	}
}
