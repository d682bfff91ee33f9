//go:build linux || darwin

package process

import (
	"bytes"
	"errors"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"

	"github.com/budgiehq/budgie/runtime"
)

// TestExecLeavesHolders: what a command leaves behind and that holds its output
// is not waited for; what was written before is there.
func TestExecLeavesHolders(t *testing.T) {
	f := newFixture(t)
	id := f.run(spec("sleep"))
	for _, tty := range []*runtime.TTY{nil, {}} {
		var out bytes.Buffer
		code, err := f.Exec(t.Context(), id, runtime.ExecConfig{
			Command: []string{"/bin/sh", "-c", `trap "" HUP; sleep 1000 & echo left`}, Stdout: &out, Stderr: &out, TTY: tty,
		})
		if code != 0 || err != nil || strings.TrimSpace(out.String()) != "left" {
			t.Errorf("Exec gives %d, %v, %q", code, err, &out)
		}
	}
}

// TestExecOneOutput: where both outputs are the same, what is written keeps its
// order.
func TestExecOneOutput(t *testing.T) {
	f := newFixture(t)
	id := f.run(spec("sleep"))
	var out bytes.Buffer
	const script = "for n in 1 2 3 4 5 6 7 8 9; do echo $n; echo $n >&2; done"
	if code, err := f.Exec(t.Context(), id, runtime.ExecConfig{Command: []string{"/bin/sh", "-c", script}, Stdout: &out, Stderr: &out}); code != 0 || err != nil {
		t.Fatalf("Exec gives %d, %v", code, err)
	}
	if got := strings.Join(strings.Fields(out.String()), ""); got != "112233445566778899" {
		t.Errorf("the order is %s", got)
	}
}

// TestExecFiles: files are the command's own, unread bytes included.
func TestExecFiles(t *testing.T) {
	f := newFixture(t)
	id := f.run(spec("sleep"))
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, []byte("one\ntwo\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	in, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	var out bytes.Buffer
	for range 2 {
		if _, err := f.Exec(t.Context(), id, runtime.ExecConfig{Command: []string{"/bin/sh", "-c", "read line; echo $line"}, Stdin: in, Stdout: &out}); err != nil {
			t.Fatal(err)
		}
	}
	if out.String() != "one\ntwo\n" {
		t.Errorf("the two commands read %q", &out)
	}
}

// TestExecWhere: the working directory is below the container's root, and the
// user can only be who is there already.
func TestExecWhere(t *testing.T) {
	f := newFixture(t)
	id := f.run(spec("sleep"))
	if err := os.Mkdir(f.path(id, "root", "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if _, err := f.Exec(t.Context(), id, runtime.ExecConfig{Command: []string{"pwd"}, Workdir: "/sub", User: me.Username, Stdout: &out}); err != nil {
		t.Fatal(err)
	}
	if got := strings.TrimSpace(out.String()); !strings.HasSuffix(got, filepath.Join(id, "root", "sub")) {
		t.Errorf("the working directory is %s", got)
	}
	if _, err := f.Exec(t.Context(), id, runtime.ExecConfig{Command: []string{"pwd"}, User: "no-such-user"}); !errors.Is(err, runtime.ErrUnsupported) {
		t.Errorf("another user gives %v", err)
	}
	if _, err := os.Stat(f.path(id, "root", "none")); err == nil {
		t.Error("there is a directory of the name")
	}
	if _, err := f.Exec(t.Context(), id, runtime.ExecConfig{Command: []string{"pwd"}, Workdir: "/none"}); !errors.Is(err, runtime.ErrCommand) {
		t.Errorf("a directory that is not there gives %v", err)
	}
	if _, err := os.Stat(f.path(id, "root", "none")); err == nil {
		t.Error("Exec has made its working directory")
	}
}
