package replica

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/budgiehq/budgie/internal/testenv"
)

// bigManifest has a number of files with names of an ordinary length.
func bigManifest(t testing.TB, files int) *manifest {
	t.Helper()
	m := &manifest{}
	if err := m.add(volume); err != nil {
		t.Fatal(err)
	}
	for i := range files {
		e := file(fmt.Sprintf("file-with-an-ordinary-name-%07d.txt", i), "content")
		if err := m.add(e); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

func TestManifestOf100000FilesNeedsLittleMemory(t *testing.T) {
	const files = 100_000
	var sent bytes.Buffer
	source := bigManifest(t, files)
	if _, err := (&sender{wire: newWire(readWriter{nil, &sent})}).announce(snapshot{m: source, sum: source.digest()}); err != nil {
		t.Fatal(err)
	}
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	r := &receiver{wire: newWire(readWriter{&sent, nil}), copy: &target{}}
	if err := r.manifest(); err != nil {
		t.Fatal(err)
	}
	if used, limit := int64(heap()-before), int64(48<<20); used > limit {
		t.Errorf("the manifest of %d files takes %d bytes, more than %d", files, used, limit)
	}
	if got := r.m.report(); got.Files != files || got.Bytes != files*int64(len("content")) {
		t.Errorf("got %+v", got)
	}
	runtime.KeepAlive(source)
}

func TestWantsFillManyFrames(t *testing.T) {
	const files = 3*maxFrame/4 + 1
	m := bigManifest(t, files)
	var sent bytes.Buffer
	var wanted []uint32
	for i := range uint32(files) {
		wanted = append(wanted, i+1)
	}
	if err := (&receiver{wire: newWire(readWriter{nil, &sent})}).ask(wanted, nil); err != nil {
		t.Fatal(err)
	}
	a, err := (&sender{wire: newWire(readWriter{&sent, nil})}).wanted(m)
	if err != nil || !slices.Equal(a.wanted, wanted) {
		t.Errorf("got %d indexes of %d, %v", len(a.wanted), len(wanted), err)
	}
}

func TestManifestLimits(t *testing.T) {
	for name, fill := range map[string]func(m *manifest){
		"entries": func(m *manifest) { m.entries = slices.Grow(m.entries, maxEntries)[:maxEntries] },
		"names":   func(m *manifest) { m.bytes = maxManifestBytes },
		"content": func(m *manifest) { m.total = 1<<63 - 1 },
	} {
		t.Run(name, func(t *testing.T) {
			m := bigManifest(t, 1)
			fill(m)
			m.entries[len(m.entries)-1].path = "a"
			if err := m.add(file("z", "1")); err == nil || !strings.Contains(err.Error(), "more than") {
				t.Errorf("no limit: %v", err)
			}
		})
	}
}

// What no entry may have as its path does not keep the rest from coming.
func TestPathsThatCannotBeCarriedAreLeftOut(t *testing.T) {
	src, base := t.TempDir(), t.TempDir()
	deepest := strings.Repeat("d/", maxDepth-1) + "d"
	reserved := temporaryPrefix + strings.Repeat("a", 32)
	for _, dir := range []string{deepest + "/d/d", reserved} {
		if err := os.MkdirAll(filepath.Join(src, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(src, "f"), "content")
	here, there := net.Pipe()
	var log bytes.Buffer
	var report Report
	var sendErr error
	var wg sync.WaitGroup
	wg.Go(func() {
		report, sendErr = New(WithLogger(slog.New(slog.NewTextHandler(&log, nil)))).Send(t.Context(), here, src)
		_ = here.Close()
	})
	_, err := New().Receive(t.Context(), there, filepath.Join(base, "copy"), ReceiveOptions{})
	_ = there.Close()
	wg.Wait()
	if err != nil || sendErr != nil {
		t.Fatalf("Receive: %v; Send: %v", err, sendErr)
	}
	if want := []string{reserved, deepest + "/d"}; !slices.Equal(slices.Sorted(slices.Values(report.Skipped)), want) {
		t.Errorf("it skips %q, want %q", report.Skipped, want)
	}
	if text := log.String(); !strings.Contains(text, "directories deep") || !strings.Contains(text, "reserved") {
		t.Errorf("the log does not say what is wrong: %s", text)
	}
	for _, name := range []string{"f", deepest} {
		if _, err := os.Lstat(filepath.Join(base, "copy", name)); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Lstat(filepath.Join(base, "copy", deepest, "d")); err == nil {
		t.Error("what is too deep came")
	}
}

func copyBetween(t *testing.T, c *Copier, src, dst string) (sendErr, receiveErr error) {
	t.Helper()
	here, there := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		if _, sendErr = c.Send(t.Context(), here, src); sendErr != nil {
			_ = here.Close()
		}
	}()
	if _, receiveErr = c.Receive(t.Context(), there, dst, ReceiveOptions{}); receiveErr != nil {
		_ = there.Close()
	}
	<-done
	return sendErr, receiveErr
}

// Leftovers of a Receive that was killed are never part of a volume, on
// neither side.
func TestFilesUnderWayAreNotCopied(t *testing.T) {
	src, dst := t.TempDir(), filepath.Join(t.TempDir(), "copy")
	write(t, filepath.Join(src, "a"), "1")
	write(t, filepath.Join(src, temporaryName()), "left by a killed Receive")
	left := filepath.Join(dst, "d", temporaryName())
	write(t, left, "1")
	if err := errors.Join(copyBetween(t, New(), src, dst)); err != nil {
		t.Fatal(err)
	}
	var names []string
	entries, _ := os.ReadDir(dst)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if !slices.Equal(names, []string{"a"}) {
		t.Errorf("the copy has %q, want a alone", names)
	}
}

func TestManySmallFilesAndLocalCopies(t *testing.T) {
	src, dst := t.TempDir(), filepath.Join(t.TempDir(), "copy")
	const files = 3*batch + 5
	for i := range files {
		write(t, filepath.Join(src, fmt.Sprint("new", i)), fmt.Sprint("sent ", i))
		write(t, filepath.Join(src, "to", fmt.Sprint(i)), fmt.Sprint("moved ", i))
		write(t, filepath.Join(dst, "from", fmt.Sprint(i)), fmt.Sprint("moved ", i))
	}
	var log bytes.Buffer
	c := New(WithLogger(slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))), WithLogger(nil))
	if err := errors.Join(copyBetween(t, c, src, dst)); err != nil {
		t.Fatal(err)
	}
	for i := range files {
		for path, want := range map[string]string{fmt.Sprint("new", i): fmt.Sprint("sent ", i), fmt.Sprint("to/", i): fmt.Sprint("moved ", i)} {
			if got, err := os.ReadFile(filepath.Join(dst, path)); err != nil || string(got) != want {
				t.Errorf("%s is %q, %v", path, got, err)
			}
		}
	}
	if want := fmt.Sprintf("wanted=%d", files); !strings.Contains(log.String(), want) {
		t.Errorf("the log does not say %s:\n%s", want, log.String())
	}
}

func TestReceivesIntoOneDirectoryTakeTurns(t *testing.T) {
	src, dst := t.TempDir(), filepath.Join(t.TempDir(), "copy")
	write(t, filepath.Join(src, "a"), strings.Repeat("1", 100_000))
	c := New()
	errs := make(chan error)
	const copies = 4
	for range copies {
		go func() { errs <- errors.Join(copyBetween(t, c, src, dst)) }()
	}
	for range copies {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

// An unchanged file that was left alone is not read again, a touched one is.
func TestDigestsAreRemembered(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	write(t, path, "content")
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	fp, ok := fingerprintOf(info)
	if !ok {
		testenv.Skip(t, "this system's files have no fingerprints: they are always read again")
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	real, wrong := file("", "content").digest, digest{1}
	for _, c := range []struct {
		name string
		fp   fingerprint
		at   time.Duration // after the file's last change
		want digest
	}{
		{"left alone", fp, quiet + time.Second, wrong},
		{"changed just before", fp, quiet - time.Second, real},
		{"changed since", fingerprint{}, quiet + time.Second, real},
	} {
		at := time.Unix(0, max(fp.ctime, fp.mtime)).Add(c.at)
		s := &scanner{root: root, known: map[string]*hashed{"f": {fp: c.fp, size: 7, digest: wrong, at: at}}}
		if got, err := s.look(t.Context(), nil, "f"); err != nil || got.digest != c.want {
			t.Errorf("%s: digest %x, %v, want %x", c.name, got.digest, err, c.want)
		}
	}
}

func TestDifferenceSaysWhat(t *testing.T) {
	base := []entry{volume, file("a", "1"), {path: "l", kind: kindSymlink, target: "x"}}
	for want, other := range map[string][]entry{
		"no difference":                          append(base[:3:3], entry{path: "socket", kind: kindSpecial}),
		`"l" is missing`:                         base[:2],
		`"a" is missing`:                         {volume, base[2]},
		`"b" should not be there`:                {volume, base[1], file("b", "1"), base[2]},
		`"z" should not be there`:                append(base[:3:3], file("z", "1")),
		`"a" has another content`:                {volume, file("a", "2"), base[2]},
		`"a" is a directory instead of a file`:   {volume, {path: "a", kind: kindDir}, base[2]},
		`"a" has the mode 0 instead of 644`:      {volume, {path: "a", kind: kindFile, size: 1, digest: base[1].digest}, base[2]},
		`"" has the modification time 1 ns inst`: append([]entry{{kind: kindDir, mode: 0o755, mtime: 1}}, base[1:]...),
	} {
		if got := (&manifest{entries: base}).difference(&manifest{entries: other}); !strings.HasPrefix(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
