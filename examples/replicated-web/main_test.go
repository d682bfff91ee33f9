//go:build unix

package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/budgiehq/budgie/internal/containerdtest"
)

func TestMain(m *testing.M) {
	containerdtest.Isolate()
	os.Exit(m.Run())
}

// build builds the example under a name.
func build(t *testing.T, name string, env ...string) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), name)
	cmd := exec.Command("go", "build", "-o", bin, ".")
	cmd.Env = append(os.Environ(), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return bin
}

// TestCheck plays the scenario with the real binary, once per algorithm.
func TestCheck(t *testing.T) {
	bin := build(t, "replicated-web")
	for _, args := range [][]string{
		{"-check", "-addr", "127.0.0.1:0"},
		{"-check", "-addr", "127.0.0.1:0", "-algorithm", "least-connections", "-replicas", "2"},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			out, err := exec.CommandContext(ctx, bin, args...).CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			for _, want := range []string{"2000 requests, 0 failures", "killing", "serves again", "replicas showed it"} {
				if !strings.Contains(string(out), want) {
					t.Errorf("the output lacks %q:\n%s", want, out)
				}
			}
		})
	}
}

func TestUsage(t *testing.T) {
	bin := build(t, "renamed") // the command in web.bun still has to be found
	for args, want := range map[string]int{
		"-replicas 0": 2,
		"surplus":     2,
		"-algorithm nosuch -check -addr 127.0.0.1:0": 1,
		"-addr 192.0.2.1:80 -replicas 1":             1,
		"-runtime nosuch":                            2,
	} {
		cmd := exec.Command(bin, strings.Fields(args)...)
		out, err := cmd.CombinedOutput()
		if got := cmd.ProcessState.ExitCode(); got != want {
			t.Errorf("%s: exit status %d, want %d: %v\n%s", args, got, want, err, out)
		}
	}
}

// Interrupted, it prints its table and leaves nothing behind.
func TestInterrupt(t *testing.T) {
	tmp := t.TempDir()
	bin := build(t, "replicated-web")
	cmd := exec.Command(bin, "-addr", "127.0.0.1:0", "-replicas", "2")
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	buf := make([]byte, 1<<10)
	for strings.Count(text.String(), "running") < 2 {
		n, err := stdout.Read(buf)
		text.Write(buf[:n])
		if err != nil {
			t.Fatalf("ended early: %v\n%s", err, text.String())
		}
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = stdout.Read(buf)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("after an interrupt: %v", err)
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
