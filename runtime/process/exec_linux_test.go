package process

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/budgiehq/budgie/runtime/runtimetest"
)

// TestMembersDuringExec looks at a process that does nothing but replace its
// program. A process has no environment to be seen for a moment of that, but
// must be found nonetheless.
func TestMembersDuringExec(t *testing.T) {
	id := runtimetest.NewID()
	const again = `exec /bin/sh -c "$0" "$0"`
	cmd := exec.Command("/bin/sh", "-c", again, again)
	cmd.Env = append(os.Environ(), "LONG="+strings.Repeat("x", 100_000), marker+"="+id)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	var look envLooker
	for n := range 3000 {
		if !look.has(cmd.Process.Pid, []byte(marker+"="+id)) {
			t.Fatalf("not found at look %d", n)
		}
	}
	if left, err := members(id, nil); err != nil || len(left) != 1 {
		t.Errorf("members are %v, %v", left, err)
	}
}

// TestNoEnvironment: a process without an environment is nobody's, and is soon
// known to be.
func TestNoEnvironment(t *testing.T) {
	cmd := exec.Command("/bin/sleep", "60")
	cmd.Env = []string{""}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	var look envLooker
	if look.has(cmd.Process.Pid, []byte(marker+"=x")) {
		t.Error("it has one")
	}
	if look.has(2, []byte(marker+"=x")) || look.has(1<<30, []byte(marker+"=x")) {
		t.Error("a kernel thread has one, or nobody")
	}
}
