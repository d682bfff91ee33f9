//go:build unix

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// foreground starts a foreground run of a .bun file's text with output that
// nobody reads, and waits until ps shows the container as wanted.
func foreground(t *testing.T, text, want string) (cmd *exec.Cmd, ps func() string) {
	t.Helper()
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	file := filepath.Join(dir, "web.bun")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	command := func(args ...string) *exec.Cmd {
		cmd := exec.Command(filepath.Join(binDir, "budgie"), args...)
		cmd.Env = append(os.Environ(), "BUDGIE_DATA_DIR="+data, "BUDGIE_BIND=127.0.0.1", "BUDGIE_INTERFACES="+loopback(),
			"PATH="+binDir+string(os.PathListSeparator)+os.Getenv("PATH"))
		return cmd
	}
	cmd = command("run", file)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	cmd.Stdout = w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		endAll(data)
	})
	ps = func() string {
		out, err := command("ps", "-a", "-format", "json").Output()
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	await(t, want, ps)
	return cmd, ps
}

func await(t *testing.T, want string, ps func() string) {
	t.Helper()
	for deadline := time.Now().Add(15 * time.Second); !strings.Contains(ps(), want); {
		if time.Now().After(deadline) {
			t.Fatalf("%s never came: %s", want, ps())
		}
	}
}

// ends waits for a process.
func ends(t *testing.T, cmd *exec.Cmd) error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case err := <-done:
		return err
	case <-time.After(15 * time.Second):
		t.Fatal("does not end")
		return nil
	}
}

// A closed terminal ends a foreground run like Ctrl-C.
func TestHangup(t *testing.T) {
	text := "version: \"1.0\"\nimage: {command: [testserver]}\nports: [{container_port: 80}]\n"
	cmd, ps := foreground(t, text, `"ready": true`)
	if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	if err := ends(t, cmd); err != nil {
		t.Error(err)
	}
	if out := ps(); !strings.Contains(out, `"state": "stopped"`) || !strings.Contains(out, `"exit_code": 0`) {
		t.Errorf("left %s", out)
	}
}

// A reader that does not read is no reason to stay: the second signal ends it.
func TestBlockedOutput(t *testing.T) {
	text := "version: \"1.0\"\nimage: {command: [\"yes\"]}\n"
	cmd, ps := foreground(t, text, `"ready": true`)
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	await(t, `"state": "stopped"`, ps)
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := ends(t, cmd); err != nil {
		t.Error(err)
	}
}
