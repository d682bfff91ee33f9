//go:build unix

package trust

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/budgiehq/budgie/internal/testenv"
)

const nobody = 65534

// A token that others can read is no secret, and one that they can write is
// whose they please.
func TestFilesThatAreNotPrivate(t *testing.T) {
	for _, name := range []string{tokenName, keyName} {
		for _, mode := range []os.FileMode{0o644, 0o640, 0o604, 0o620, 0o602, 0o601} {
			dir := t.TempDir()
			if _, err := opened(t, dir).Token(); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, name)
			if err := os.Chmod(path, mode); err != nil {
				t.Fatal(err)
			}
			f, err := Open(dir)
			if err == nil {
				_, err = f.Token()
				closeFlock(t, f)
			}
			if !errors.Is(err, ErrUnusable) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "chmod 0600") {
				t.Errorf("%s with mode %o: %v", name, mode, err)
			}
		}
	}
}

// A pipe that nobody writes to must not stop the program.
func TestPipeInThePlaceOfTheToken(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(dir, tokenName), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := opened(t, dir).Token(); !errors.Is(err, ErrUnusable) || !strings.Contains(err.Error(), "a pipe") {
		t.Errorf("Token: %v", err)
	}
}

func TestFilesOfAnotherUser(t *testing.T) {
	testenv.NeedRoot(t)
	for _, name := range []string{tokenName, keyName} {
		dir := t.TempDir()
		if _, err := opened(t, dir).Token(); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(filepath.Join(dir, name), nobody, nobody); err != nil {
			t.Fatal(err)
		}
		f, err := Open(dir)
		if err == nil {
			_, err = f.Token()
			closeFlock(t, f)
		}
		if !errors.Is(err, ErrUnusable) || !strings.Contains(err.Error(), "it belongs to user nobody") {
			t.Errorf("%s of somebody else: %v", name, err)
		}
	}
}

// Root working in a user's directory, as with sudo, does not lock the user out,
// and uses what is there.
func TestRootInAnothersDirectory(t *testing.T) {
	testenv.NeedRoot(t)
	child := publicCopy(t)
	for _, first := range []string{"root", "user"} {
		dir := filepath.Join(publicDir(t), "data")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(dir, nobody, nobody); err != nil {
			t.Fatal(err)
		}
		var before string
		if first == "user" {
			before = asPlainUser(t, child, "token", dir)
		}
		f := opened(t, dir)
		tok, err := f.Token()
		if err != nil {
			t.Fatal(err)
		}
		want := tok.Reveal() + " " + f.NodeID()
		if before != "" && before != want {
			t.Error("root has other files than the user before")
		}
		if got := asPlainUser(t, child, "token", dir); got != want {
			t.Errorf("the user after root: %s", got)
		}
		if _, err := f.Rotate(); err != nil {
			t.Fatal(err)
		}
		if got := asPlainUser(t, child, "rotate", dir); !strings.HasPrefix(got, tokenWord) {
			t.Errorf("the user after root's rotation: %s", got)
		}
		if _, err := f.Token(); err != nil {
			t.Errorf("root after the user's rotation: %v", err)
		}
	}
}

// What root made in root's own directory is not the user's to use.
func TestFilesThatMayNotBeRead(t *testing.T) {
	testenv.NeedRoot(t)
	child := publicCopy(t)
	dir := filepath.Join(publicDir(t), "data")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	out := asPlainUser(t, child, "token", dir)
	if !strings.Contains(out, "run as the user who owns the data directory") || !strings.Contains(out, dir) {
		t.Errorf("making files: %s", out)
	}
	if _, err := opened(t, dir).Token(); err != nil {
		t.Fatal(err)
	}
	out = asPlainUser(t, child, "token", dir)
	if !strings.Contains(out, "run as the user who owns the data directory") || !strings.Contains(out, dir) {
		t.Errorf("reading files: %s", out)
	}
}

// publicDir returns a directory that every user can reach.
func publicDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "budgie-trust-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// publicCopy returns a copy of this test binary that every user can run.
func publicCopy(t *testing.T) string {
	t.Helper()
	from, err := os.Open(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	to, err := os.OpenFile(filepath.Join(publicDir(t), "child"), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(to, from); err != nil {
		t.Fatal(err)
	}
	if err := to.Close(); err != nil {
		t.Fatal(err)
	}
	return to.Name()
}

// asPlainUser has a user without privileges work in a data directory, and
// returns the first line that the process printed, errors included. What else
// there is, is of a coverage run that cannot write its data.
func asPlainUser(t *testing.T, binary, do, dir string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), binary)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), childEnv+"="+do, dirEnv+"="+dir)
	out, err := cmd.CombinedOutput()
	if _, ended := errors.AsType[*exec.ExitError](err); err != nil && !ended {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return line
}
