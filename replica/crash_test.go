//go:build unix

package replica_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"github.com/budgiehq/budgie/internal/testenv"
	"github.com/budgiehq/budgie/replica"
	"github.com/budgiehq/budgie/replica/replicatest"
)

// roleEnv makes the test binary a receiver: "DIR" over its standard input,
// which is a socket.
const roleEnv = "BUDGIE_TEST_RECEIVE"

func TestMain(m *testing.M) {
	if dir := os.Getenv(roleEnv); dir != "" {
		os.Exit(receiveInChild(dir))
	}
	goleak.VerifyTestMain(m)
}

func receiveInChild(dir string) int {
	if err := limitFileSize(os.Getenv("BUDGIE_TEST_FILE_LIMIT")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 3
	}
	conn, err := net.FileConn(os.Stdin)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 3
	}
	if _, err := replica.New().Receive(context.Background(), conn, dir, replica.ReceiveOptions{}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// receiver starts a process that receives into dir, and returns the sender's
// end of the connection.
func receiver(t *testing.T, dir string, env ...string) (*exec.Cmd, *strings.Builder, net.Conn) {
	t.Helper()
	fds, err := socketPair()
	if err != nil {
		testenv.Skip(t, "needs a pair of sockets: "+err.Error())
	}
	theirs, ours := os.NewFile(uintptr(fds[0]), "theirs"), os.NewFile(uintptr(fds[1]), "ours")
	defer theirs.Close()
	defer ours.Close()
	conn, err := net.FileConn(ours)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), append(env, roleEnv+"="+dir)...)
	cmd.Stdin = theirs
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, &stderr, conn
}

func TestReceiverKilled(t *testing.T) {
	src, dst := filepath.Join(t.TempDir(), "src"), filepath.Join(t.TempDir(), "dst")
	replicatest.Build(t, src, replicatest.Tree{"a": replicatest.F(noise('a', 400_000)), "b": replicatest.F(noise('b', 400_000)),
		"c": replicatest.F("new")})
	before := replicatest.Tree{"a": replicatest.F("old"), "c": replicatest.F("old"), "extra": replicatest.F("x")}
	sawPart := false
	for kill := 0; kill < 900_000; kill += 150_000 {
		replicatest.Build(t, dst, before)
		cmd, _, conn := receiver(t, dst)
		sent := 0
		hooked := &hookConn{Conn: conn, onWrite: func(n int) error {
			if sent += n; sent > kill {
				return errors.Join(cmd.Process.Kill(), io.ErrClosedPipe)
			}
			return nil
		}}
		_, err := replica.New().Send(t.Context(), hooked, src)
		if kill < 800_000 && err == nil {
			t.Fatalf("the receiver was killed at byte %d and nobody noticed", kill)
		}
		_ = cmd.Wait() // killed
		for _, name := range []string{"a", "c", "extra"} {
			got, err := os.ReadFile(filepath.Join(dst, name))
			fresh, _ := os.ReadFile(filepath.Join(src, name))
			if err != nil || string(got) != before[name].Content && string(got) != string(fresh) {
				t.Errorf("killed at byte %d: %s is neither old nor new (%v)", kill, name, err)
			}
		}
		left, _ := filepath.Glob(filepath.Join(dst, ".budgie-sync-*"))
		sawPart = sawPart || len(left) > 0
		if _, _, err := replicatest.Copy(t.Context(), replica.New(), src, dst); err != nil {
			t.Fatalf("killed at byte %d: the next Receive: %v", kill, err)
		}
		if diff := replicatest.Diff(src, dst); diff != "" { // which also sees files under way
			t.Errorf("killed at byte %d: after the next Receive: %s", kill, diff)
		}
	}
	if !sawPart {
		t.Error("no kill came while a file was under way: the test is blunt")
	}
}

func TestDiskFullLeavesOldFiles(t *testing.T) {
	src, dst := filepath.Join(t.TempDir(), "src"), filepath.Join(t.TempDir(), "dst")
	replicatest.Build(t, src, replicatest.Tree{"a": replicatest.F("small"), "b": replicatest.F(noise('b', 400_000))})
	replicatest.Build(t, dst, replicatest.Tree{"b": replicatest.F("old"), "extra": replicatest.F("x")})
	cmd, stderr, conn := receiver(t, dst, "BUDGIE_TEST_FILE_LIMIT=100000")
	_, sendErr := replica.New().Send(t.Context(), conn, src)
	_ = conn.Close()
	if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() != 1 {
		t.Fatalf("the receiver ended with %v: %s", err, stderr)
	}
	if sendErr == nil {
		t.Error("Send did not notice")
	}
	if !strings.Contains(stderr.String(), "receiving b") || !strings.Contains(stderr.String(), syscall.EFBIG.Error()) {
		t.Errorf("the error does not say which file and why: %s", stderr)
	}
	for name, want := range map[string]string{"a": "small", "b": "old", "extra": "x"} {
		if got, err := os.ReadFile(filepath.Join(dst, name)); err != nil || string(got) != want {
			t.Errorf("%s is %.10q, %v", name, got, err)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dst, ".budgie-sync-*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if _, _, err := replicatest.Copy(t.Context(), replica.New(), src, dst); err != nil {
		t.Errorf("with room again: %v", err)
	}
}

// Root may do what modes forbid, and give files away; what needs neither must
// also work for those who may not.
func TestPlainUser(t *testing.T) {
	testenv.NeedRoot(t)
	dir, err := os.MkdirTemp("", "budgie-plain-user-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(dir, "replica.test")
	if err := errors.Join(os.WriteFile(binary, self, 0o755), os.Chmod(dir, 0o777)); err != nil {
		t.Fatal(err)
	}
	tests := []string{"TestConformance", "TestAnyTreeBecomesAnyOther", "TestCaseV7RsyncFindsNoDifference", "TestHardLinksMoveNoData", "TestProbeLeavesNoTrace"}
	cmd := exec.CommandContext(t.Context(), binary, "-test.run=^("+strings.Join(tests, "|")+")$", "-test.v", "-rapid.checks=30")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "TMPDIR="+dir, "HOME="+dir)
	asNobody(cmd)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	for _, name := range tests {
		if !strings.Contains(string(out), "--- PASS: "+name+" ") {
			t.Errorf("%s did not pass for a plain user\n%s", name, out)
		}
	}
}
