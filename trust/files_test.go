package trust

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// write puts a file in the place of whatever is there.
func write(t *testing.T, path, text string, mode fs.FileMode) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path+".new", mode); err != nil { // whatever the umask
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func contextOf(t *testing.T) (context.Context, context.CancelFunc) {
	return context.WithCancel(t.Context())
}

func isReset(err error) bool { return errors.Is(err, syscall.ECONNRESET) }

// syncBuffer is a log that is read while it is written.
type syncBuffer struct {
	mu   sync.Mutex
	buf  bytes.Buffer
	more chan struct{}
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.more != nil {
		close(b.more)
		b.more = nil
	}
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// await waits until the log contains a text.
func (b *syncBuffer) await(t *testing.T, text string) {
	t.Helper()
	deadline := time.After(patience)
	for {
		b.mu.Lock()
		if strings.Contains(b.buf.String(), text) {
			b.mu.Unlock()
			return
		}
		if b.more == nil {
			b.more = make(chan struct{})
		}
		more := b.more
		b.mu.Unlock()
		select {
		case <-more:
		case <-deadline:
			t.Fatalf("%q is not logged: %s", text, b.String())
		}
	}
}

// runChild has another process work in a data directory, and returns the token
// and the node that it prints.
func runChild(t *testing.T, do, dir string) (Token, string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+do, dirEnv+"="+dir)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	text, node, _ := strings.Cut(strings.TrimSpace(string(out)), " ")
	tok, err := ParseToken(text)
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return tok, node
}

// Processes and goroutines that use a new data directory at the same time
// agree on its token and on its node.
func TestFirstUseOfADirectory(t *testing.T) {
	for range 5 {
		dir := filepath.Join(t.TempDir(), "above", "data")
		type found struct {
			tok  Token
			node string
		}
		results := make(chan found, 12)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				tok, node := runChild(t, "token", dir)
				results <- found{tok, node}
			})
		}
		for range 8 {
			wg.Go(func() {
				f, err := Open(dir)
				if err != nil {
					t.Error(err)
					return
				}
				defer f.Close()
				tok, err := f.Token()
				if err != nil {
					t.Error(err)
				}
				results <- found{tok, f.NodeID()}
			})
		}
		wg.Wait()
		close(results)
		f := opened(t, dir)
		tok, err := f.Token()
		if err != nil {
			t.Fatal(err)
		}
		for r := range results {
			if !r.tok.Equal(tok) || r.node != f.NodeID() {
				t.Errorf("one has flock %s and node %s, another %s and %s", r.tok.FlockID(), r.node, tok.FlockID(), f.NodeID())
			}
		}
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) != 2 {
			t.Errorf("there are %v, %v", entries, err)
		}
		for _, e := range entries {
			if info, err := e.Info(); err != nil || runtime.GOOS != "windows" && info.Mode() != 0o600 {
				t.Errorf("%s has mode %v, %v", e.Name(), info.Mode(), err)
			}
		}
	}
}

func TestIdentityStays(t *testing.T) {
	dir := t.TempDir()
	a := opened(t, dir)
	if _, err := a.Rotate(); err != nil {
		t.Fatal(err)
	}
	if b := opened(t, dir); b.NodeID() != a.NodeID() {
		t.Error("the node is another one after a rotation")
	}
	if c := opened(t, t.TempDir()); c.NodeID() == a.NodeID() || len(c.NodeID()) != 64 {
		t.Errorf("another node is %s", c.NodeID())
	}
}

func TestDamagedNodeKey(t *testing.T) {
	self, err := newIdentity()
	if err != nil {
		t.Fatal(err)
	}
	good, err := self.encode()
	if err != nil {
		t.Fatal(err)
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other, err := x509.MarshalPKCS8PrivateKey(ec)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"empty": "", "half": string(good[:len(good)/2]), "twice": string(good) + string(good), "rubbish": "\x00\xff",
		"another type":    strings.ReplaceAll(string(good), "PRIVATE", "PUBLIC"),
		"another content": string(pem.EncodeToMemory(&pem.Block{Type: keyType, Bytes: []byte("x")})),
		"another key":     string(pem.EncodeToMemory(&pem.Block{Type: keyType, Bytes: other})),
		"huge":            strings.Repeat("\n", mostSecret+1),
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), keyName)
			write(t, path, text, 0o600)
			_, err := Open(filepath.Dir(path))
			if !errors.Is(err, ErrUnusable) || !strings.Contains(err.Error(), path) {
				t.Fatalf("got %v", err)
			}
			if now, err := os.ReadFile(path); err != nil || string(now) != text {
				t.Errorf("it was changed: %v", err)
			}
			if strings.Contains(err.Error(), strings.Split(string(good), "\n")[1]) {
				t.Errorf("the key is told: %v", err)
			}
		})
	}
	dir := t.TempDir()
	write(t, filepath.Join(dir, keyName), string(good), 0o600)
	if f := opened(t, dir); f.NodeID() != self.id {
		t.Errorf("the node of a restored key is %s, want %s", f.NodeID(), self.id)
	}
}

// FuzzNodeKey: what is read is what would be written, and no text makes it
// panic.
func FuzzNodeKey(f *testing.F) {
	self, err := newIdentity()
	if err != nil {
		f.Fatal(err)
	}
	good, err := self.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		i, err := decodeKey(text)
		if err != nil {
			return
		}
		again, err := i.encode()
		if err != nil {
			t.Fatal(err)
		}
		if j, err := decodeKey(again); err != nil || j.id != i.id {
			t.Errorf("%v", err)
		}
	})
}

// What is not a plain file is refused, whatever it leads to, and only Set and
// Rotate, which somebody asked for, put another in its place.
func TestDamagedToken(t *testing.T) {
	good := NewToken().Reveal()
	for name, c := range map[string]struct {
		spoil func(t *testing.T, path string)
		want  string
	}{
		"empty":   {func(t *testing.T, path string) { write(t, path, "", 0o600) }, "it is empty"},
		"half":    {func(t *testing.T, path string) { write(t, path, good[:30], 0o600) }, "the rest is missing"},
		"typo":    {func(t *testing.T, path string) { write(t, path, good[:71]+"b", 0o600) }, "character 72"},
		"huge":    {func(t *testing.T, path string) { write(t, path, strings.Repeat("q", mostSecret+1), 0o600) }, "larger than"},
		"symlink": {func(t *testing.T, path string) { symlink(t, path, good) }, "a symbolic link"},
		"dangling symlink": {func(t *testing.T, path string) {
			if err := os.Symlink(path+".nowhere", path); err != nil {
				t.Fatal(err)
			}
		}, "a symbolic link"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, tokenName)
			c.spoil(t, path)
			f := opened(t, dir)
			_, err := f.Token()
			if !errors.Is(err, ErrUnusable) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			noSecret(t, err.Error(), good)
			tok, err := f.Rotate()
			if err != nil {
				t.Fatal(err)
			}
			if now, err := opened(t, dir).Token(); err != nil || !now.Equal(tok) {
				t.Errorf("after Rotate: %v", err)
			}
			if info, err := os.Lstat(path); err != nil || !info.Mode().IsRegular() {
				t.Errorf("after Rotate: %v, %v", info, err)
			}
		})
	}
}

func symlink(t *testing.T, path, text string) {
	t.Helper()
	write(t, path+".target", text, 0o600)
	if err := os.Symlink(path+".target", path); err != nil {
		t.Fatal(err)
	}
}

func TestDirectoryInThePlaceOfTheToken(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, tokenName), 0o700); err != nil {
		t.Fatal(err)
	}
	f := opened(t, dir)
	if _, err := f.Token(); !errors.Is(err, ErrUnusable) || !strings.Contains(err.Error(), "a directory") {
		t.Errorf("Token: %v", err)
	}
	if _, err := f.Rotate(); err == nil || !strings.Contains(err.Error(), filepath.Join(dir, tokenName)) {
		t.Errorf("Rotate: %v", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("there are %v, %v", entries, err)
	}
}

func TestFixedToken(t *testing.T) {
	tok := NewToken()
	dir := t.TempDir()
	f := opened(t, dir, WithToken(tok, "BUDGIE_TOKEN"))
	if got, err := f.Token(); err != nil || !got.Equal(tok) {
		t.Errorf("Token: %v", err)
	}
	if err := f.Set(NewToken()); !errors.Is(err, ErrFixed) || !strings.Contains(err.Error(), "BUDGIE_TOKEN") {
		t.Errorf("Set: %v", err)
	}
	if _, err := f.Rotate(); !errors.Is(err, ErrFixed) {
		t.Errorf("Rotate: %v", err)
	}
	if _, err := f.Current(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, tokenName)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file was made: %v", err)
	}
	if _, err := member(t, Token{}).Token(); !errors.Is(err, ErrUnusable) {
		t.Errorf("the zero token: %v", err)
	}
	kept := opened(t, dir)
	before, err := kept.Token()
	if err != nil {
		t.Fatal(err)
	}
	if err := kept.Set(Token{}); err == nil {
		t.Error("the zero token was set")
	}
	if now, err := kept.Token(); err != nil || !now.Equal(before) {
		t.Errorf("after setting the zero token: %v", err)
	}
}

func TestTokenInMemory(t *testing.T) {
	f, err := New()
	if err != nil {
		t.Fatal(err)
	}
	defer closeFlock(t, f)
	first, err := f.Token()
	if err != nil {
		t.Fatal(err)
	}
	second, err := f.Rotate()
	if err != nil || second.Equal(first) {
		t.Fatalf("Rotate: %v", err)
	}
	if now, err := f.Token(); err != nil || !now.Equal(second) {
		t.Errorf("Token: %v", err)
	}
}

func TestDirectoryThatCannotBe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	write(t, path, "", 0o600)
	if _, err := Open(filepath.Join(path, "data")); err == nil {
		t.Error("a directory in a file")
	}
}

func TestNodeIDOfNoKey(t *testing.T) {
	if _, err := NodeID("no key"); err == nil {
		t.Error("it has an id")
	}
}
