package replica

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// patience bounds what must not hang.
const patience = 30 * time.Second

// against runs a Receive against a sender that does what script says. It
// returns Receive's error and the directories that it had: of these, base has
// an outside with a secret beside the copy with a precious file.
func against(t *testing.T, script func(w *wire) error) (base string, err error) {
	t.Helper()
	base = t.TempDir()
	write(t, filepath.Join(base, "outside", "secret"), "secret")
	write(t, filepath.Join(base, "copy", "precious"), "precious")
	if err := os.Symlink("../outside", filepath.Join(base, "copy", "way-out")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	here, there := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer here.Close()
		_ = script(newWire(here)) // it ends when Receive has had enough
	}()
	_, err = New().Receive(ctx, there, filepath.Join(base, "copy"), ReceiveOptions{})
	_ = there.Close()
	<-done
	if ctx.Err() != nil {
		t.Fatal("Receive hung")
	}
	return base, err
}

func write(t testing.TB, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// untouched checks that nothing outside the copy changed, that nothing
// half-written is left in it, and that it kept what it had.
func untouched(t *testing.T, base string) {
	t.Helper()
	err := filepath.WalkDir(base, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		switch rel, _ := filepath.Rel(base, path); rel {
		case ".", "outside", "outside/secret", "copy", "copy/precious", "copy/way-out", "copy/d":
		default:
			t.Errorf("%s was made", rel)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{"outside/secret": "secret", "copy/precious": "precious"} {
		if got, err := os.ReadFile(filepath.Join(base, path)); err != nil || string(got) != want {
			t.Errorf("%s is %q, %v", path, got, err)
		}
	}
}

// accept plays the sender's part of the greeting.
func accept(w *wire) error {
	if err := w.welcome(ready); err != nil {
		return err
	}
	_, _, err := w.offered()
	return err
}

func ready() error { return nil }

// announce sends a manifest without looking at it, and reads what is wanted.
func announce(w *wire, entries ...entry) error {
	if err := accept(w); err != nil {
		return err
	}
	var frame []byte
	for _, e := range entries {
		frame = appendEntry(frame, e)
	}
	if err := w.write(frameEntries, frame); err != nil {
		return err
	}
	d := (&manifest{entries: entries}).digest()
	if err := w.write(frameManifest, binary.BigEndian.AppendUint32(nil, uint32(len(entries))), d[:]); err != nil {
		return err
	}
	if err := w.flush(); err != nil {
		return err
	}
	for {
		if kind, _, err := w.read(); err != nil || kind == frameWantEnd {
			return err
		}
	}
}

var volume = entry{kind: kindDir, mode: 0o755}

func file(path, content string) entry {
	return entry{path: path, kind: kindFile, mode: 0o644, size: int64(len(content)), digest: sha256.Sum256([]byte(content))}
}

func TestHostileManifests(t *testing.T) {
	long := strings.Repeat("x/", 2500)
	cases := map[string][]entry{
		"nothing":                nil,
		"no volume":              {file("a", "1")},
		"volume is a file":       {file("", "1")},
		"absolute":               {volume, file("/etc/passwd", "1")},
		"parent":                 {volume, file("..", "1")},
		"outside":                {volume, file("../outside/secret", "1")},
		"inner parent":           {volume, {path: "a", kind: kindDir}, file("a/../../x", "1")},
		"dot":                    {volume, file(".", "1")},
		"double slash":           {volume, {path: "a", kind: kindDir}, file("a//b", "1")},
		"trailing slash":         {volume, file("a/", "1")},
		"NUL":                    {volume, file("a\x00b", "1")},
		"long name":              {volume, file(strings.Repeat("x", 256), "1")},
		"long path":              {volume, file(long[:maxPath+1], "1")},
		"deep path":              {volume, file(strings.Repeat("x/", maxDepth)+"x", "1")},
		"reserved name":          {volume, file(temporaryName(), "1")},
		"twice":                  {volume, file("a", "1"), file("a", "2")},
		"unsorted":               {volume, file("b", "1"), file("a", "2")},
		"no parent":              {volume, file("a/b", "1")},
		"file as parent":         {volume, file("a", "1"), file("a/b", "1")},
		"link as parent":         {volume, {path: "a", kind: kindSymlink, target: "../outside"}, file("a/secret", "1")},
		"negative size":          {volume, {path: "a", kind: kindFile, size: -1}},
		"absurd size":            {volume, {path: "a", kind: kindFile, size: maxFileSize + 1}},
		"set-user-ID":            {volume, {path: "a", kind: kindFile, mode: 0o4755}},
		"half an owner":          {volume, {path: "a", kind: kindDir, owner: owner{uid: noID, known: true}}},
		"set-group-ID":           {volume, {path: "a", kind: kindDir, mode: 0o2755}},
		"mode beyond modes":      {volume, {path: "a", kind: kindDir, mode: 0o10755}},
		"empty link":             {volume, {path: "a", kind: kindSymlink}},
		"NUL in link":            {volume, {path: "a", kind: kindSymlink, target: "a\x00b"}},
		"long link":              {volume, {path: "a", kind: kindSymlink, target: strings.Repeat("x", maxTarget+1)}},
		"hard link to nothing":   {volume, {path: "a", kind: kindHardLink, target: "0"}},
		"hard link outside":      {volume, {path: "a", kind: kindHardLink, target: "../outside/secret"}},
		"hard link to itself":    {volume, {path: "a", kind: kindHardLink, target: "a"}},
		"hard link to a later":   {volume, {path: "a", kind: kindHardLink, target: "b"}, file("b", "1")},
		"hard link to the whole": {volume, {path: "a", kind: kindHardLink}},
		"hard link to a link":    {volume, {path: "a", kind: kindSymlink, target: "x"}, {path: "b", kind: kindHardLink, target: "a"}},
		"hard link to a second":  {volume, file("a", "1"), {path: "b", kind: kindHardLink, target: "a"}, {path: "c", kind: kindHardLink, target: "b"}},
		"attributes of SELinux":  {volume, withXattrs(file("a", "1"), xattrs("security.selinux", "1"))},
		"special with a child":   {volume, {path: "a", kind: kindSpecial}, file("a/b", "1")},
	}
	for name, entries := range cases {
		t.Run(name, func(t *testing.T) {
			base, err := against(t, func(w *wire) error { return announce(w, entries...) })
			if !errors.Is(err, ErrProtocol) {
				t.Errorf("want ErrProtocol, got %v", err)
			}
			untouched(t, base)
		})
	}
}

func TestHostileTransfers(t *testing.T) {
	sends := func(e entry, frames ...func(w *wire) error) func(w *wire) error {
		return func(w *wire) error {
			if err := announce(w, volume, e); err != nil {
				return err
			}
			for _, f := range frames {
				if err := f(w); err != nil {
					return err
				}
			}
			return w.flush()
		}
	}
	data := func(s string) func(w *wire) error {
		return func(w *wire) error { return w.write(frameData, []byte(s)) }
	}
	end := func(ok byte) func(w *wire) error {
		return func(w *wire) error { return w.write(frameFileEnd, []byte{ok}) }
	}
	hole := func(n uint64) func(w *wire) error {
		return func(w *wire) error { return w.write(frameZeros, binary.BigEndian.AppendUint64(nil, n)) }
	}
	frame := func(kind byte) func(w *wire) error { return func(w *wire) error { return w.write(kind) } }
	forever := func(f func(w *wire) error) func(w *wire) error {
		return func(w *wire) error {
			for {
				if err := f(w); err != nil {
					return err
				}
			}
		}
	}
	cases := map[string]struct {
		script func(w *wire) error
		want   error
	}{
		"content lies":        {sends(file("a", "1"), data("2"), end(1)), ErrVerify},
		"less than announced": {sends(file("a", "12"), data("1"), end(1)), ErrVerify},
		"more than announced": {sends(file("a", "1"), data("12"), end(1)), ErrProtocol},
		"endless content":     {sends(file("a", "1"), forever(data("1"))), ErrProtocol},
		"hole beyond the end": {sends(file("a", "1"), hole(2)), ErrProtocol},
		"hole of 2^64":        {sends(file("a", "1"), hole(1<<64-1)), ErrProtocol},
		"hole of nothing":     {sends(file("a", "1"), hole(0)), ErrProtocol},
		"hole for content":    {sends(file("a", "1"), hole(1), end(1)), ErrVerify},
		"endless nothing":     {sends(file("a", "1"), forever(data(""))), ErrProtocol},
		"done without files":  {sends(file("a", "1"), end(0), frame(frameDone)), ErrProtocol},
		"done too early":      {sends(file("a", "1"), frame(frameDone)), ErrProtocol},
		"unknown frame":       {sends(file("a", "1"), frame(99)), ErrProtocol},
		"malformed end":       {sends(file("a", "1"), data("1"), end(7)), ErrProtocol},
		"through the way out": {sends(file("way-out", "secret")), nil},
		"directory for a way out": {func(w *wire) error {
			return announce(w, volume, entry{path: "way-out", kind: kindDir}, file("way-out/secret", "1"))
		}, nil},
		"cut off": {sends(file("a", "12"), data("1")), io.ErrUnexpectedEOF},
		"endless manifest": {func(w *wire) error {
			if err := accept(w); err != nil {
				return err
			}
			return forever(func(w *wire) error { return w.write(frameEntries, appendEntry(nil, volume)) })(w)
		}, ErrProtocol},
		"endless rounds": {func(w *wire) error {
			below := entry{path: "below", kind: kindDir, mode: 0o755}
			err := announce(w, volume, below)
			for ; err == nil; err = w.flush() {
				d := (&manifest{entries: []entry{volume, below}}).digest()
				err = errors.Join(w.write(frameAgain), w.write(frameEntries, appendEntry(appendEntry(nil, volume), below)),
					w.write(frameManifest, []byte{0, 0, 0, 2}, d[:]), w.flush())
				for kind := byte(0); err == nil && kind != frameWantEnd; {
					kind, _, err = w.read()
				}
			}
			return err
		}, ErrProtocol},
		"manifest's digest lies": {func(w *wire) error {
			if err := accept(w); err != nil {
				return err
			}
			return errors.Join(w.write(frameEntries, appendEntry(nil, volume)), w.write(frameManifest, make([]byte, 36)), w.flush())
		}, ErrProtocol},
		"huge frame": {func(w *wire) error {
			if err := accept(w); err != nil {
				return err
			}
			_, err := w.conn.Write([]byte{frameEntries, 0xff, 0xff, 0xff, 0xff})
			return err
		}, ErrProtocol},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			base, err := against(t, c.script)
			if err == nil || c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("want %v, got %v", c.want, err)
			}
			untouched(t, base)
		})
	}
}

// What the sender says in the end does not count more than what is there.
func TestSenderWithAnotherDigestInTheEnd(t *testing.T) {
	_, err := against(t, func(w *wire) error {
		return errors.Join(announce(w, volume, entry{path: "a", kind: kindDir, mode: 0o755}), w.write(frameDone), w.flush(), func() error {
			_, err := w.expect(frameVerified, 36)
			return errors.Join(err, w.write(frameBye, make([]byte, 32)), w.flush())
		}())
	})
	if !errors.Is(err, ErrVerify) {
		t.Errorf("want ErrVerify, got %v", err)
	}
}

func TestHostileReceivers(t *testing.T) {
	hello := func(w *wire) error {
		if err := errors.Join(w.greet(), w.offer(ability{})); err != nil {
			return err
		}
		for {
			if kind, _, err := w.read(); err != nil || kind == frameManifest {
				return err
			}
		}
	}
	want := func(indexes ...uint32) func(w *wire) error {
		return func(w *wire) error {
			var b []byte
			for _, i := range indexes {
				b = binary.BigEndian.AppendUint32(b, i)
			}
			return errors.Join(hello(w), w.write(frameWant, b), w.flush(), func() error { _, _, err := w.read(); return err }())
		}
	}
	cases := map[string]struct {
		script func(w *wire) error
		want   error
	}{
		"HTTP": {func(w *wire) error {
			_, err := io.WriteString(w.conn, "GET / HTTP/1.1\r\n\r\n")
			return err
		}, ErrProtocol},
		"other magic": {func(w *wire) error {
			return errors.Join(w.write(frameHello, []byte("budgie/x\x00\x01\x00\x01")), w.flush(), func() error { _, _, err := w.read(); return err }())
		}, ErrProtocol},
		"gone at once":         {func(*wire) error { return nil }, io.ErrUnexpectedEOF},
		"wants the volume":     {want(0), ErrProtocol},
		"wants what is not":    {want(2), ErrProtocol},
		"wants it twice":       {want(1, 1), ErrProtocol},
		"wants nothing, again": {want(), ErrProtocol},
		"lies about the digest": {func(w *wire) error {
			return errors.Join(hello(w), w.write(frameWantEnd, []byte{0}), w.flush(), func() error {
				_, err := w.expect(frameDone, 0)
				return errors.Join(err, w.write(frameVerified, make([]byte, 36)), w.flush(), func() error { _, _, err := w.read(); return err }())
			}())
		}, ErrVerify},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, filepath.Join(dir, "file"), "content")
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			here, there := net.Pipe()
			done := make(chan struct{})
			go func() {
				defer close(done)
				defer there.Close()
				_ = c.script(newWire(there)) // it ends when Send has had enough
			}()
			_, err := New().Send(ctx, here, dir)
			_ = here.Close()
			<-done
			if !errors.Is(err, c.want) {
				t.Errorf("want %v, got %v", c.want, err)
			}
			if got, err := os.ReadFile(filepath.Join(dir, "file")); err != nil || string(got) != "content" {
				t.Errorf("the source is %q, %v", got, err)
			}
		})
	}
}

func TestOtherVersionsAreRefusedPolitely(t *testing.T) {
	for name, c := range map[string]struct{ lowest, highest uint16 }{"newer": {maxVersion + 1, 9}, "older": {0, minVersion - 1}} {
		t.Run(name, func(t *testing.T) {
			here, there := net.Pipe()
			done := make(chan error, 1)
			go func() {
				defer here.Close()
				_, err := New().Send(t.Context(), here, t.TempDir())
				done <- err
			}()
			w := newWire(there)
			hello := binary.BigEndian.AppendUint16([]byte(magic), c.lowest)
			if err := errors.Join(w.write(frameHello, hello, binary.BigEndian.AppendUint16(nil, c.highest)), w.flush()); err != nil {
				t.Fatal(err)
			}
			if _, _, err := w.read(); !errors.Is(err, ErrVersion) || !strings.Contains(err.Error(), "update the older") {
				t.Errorf("the receiver learns %v, want ErrVersion and what to do", err)
			}
			if err := <-done; !errors.Is(err, ErrVersion) {
				t.Errorf("Send: want ErrVersion, got %v", err)
			}
		})
	}
	t.Run("refused", func(t *testing.T) {
		base, err := against(t, func(w *wire) error {
			if _, err := w.expect(frameHello, -1); err != nil {
				return err
			}
			w.mayWrite = true
			w.reportError(ErrVersion)
			return nil
		})
		if !errors.Is(err, ErrVersion) {
			t.Errorf("Receive: want ErrVersion, got %v", err)
		}
		untouched(t, base)
	})
	t.Run("not offered", func(t *testing.T) {
		base, err := against(t, func(w *wire) error {
			_, err := w.expect(frameHello, -1)
			return errors.Join(err, w.write(frameHello, []byte(magic), []byte{0, 99}), w.flush())
		})
		if !errors.Is(err, ErrProtocol) {
			t.Errorf("want ErrProtocol, got %v", err)
		}
		untouched(t, base)
	})
}

// A newer side that speaks this version too is understood.
func TestNewerReceiverIsServed(t *testing.T) {
	var sent bytes.Buffer
	in := binary.BigEndian.AppendUint16([]byte(magic), maxVersion)
	in = binary.BigEndian.AppendUint16(in, 40)
	conn := struct {
		io.Reader
		io.Writer
	}{io.MultiReader(bytes.NewReader([]byte{frameHello, 0, 0, 0, byte(len(in))}), bytes.NewReader(in)), &sent}
	w := newWire(conn)
	if err := w.welcome(ready); err != nil {
		t.Fatal(err)
	}
	if want := "\x01\x00\x00\x00\x0a" + magic + string([]byte{0, maxVersion}); sent.String() != want {
		t.Errorf("the sender said %q, want %q", sent.String(), want)
	}
}

func TestErrorTextIsHarmless(t *testing.T) {
	err := decodeError([]byte("\x04red \x1b[31m\xff\nline\u009b2J"))
	if !errors.Is(err, ErrVerify) || strings.ContainsAny(err.Error(), "\x1b\n\u009b") {
		t.Errorf("got %q", err)
	}
	for _, payload := range []string{"", strings.Repeat("x", maxErrorText+2)} {
		if err := decodeError([]byte(payload)); !errors.Is(err, ErrProtocol) {
			t.Errorf("an error frame of %d bytes: %v", len(payload), err)
		}
	}
	if err := decodeError([]byte("\xc8unknown code")); !strings.Contains(err.Error(), "unknown code") {
		t.Errorf("got %q", err)
	}
}
