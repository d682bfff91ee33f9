//go:build linux

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

// TestCheckOnContainers plays the scenario with replicas that are containers,
// with a binary that needs shared libraries and with one that needs none, and
// looks for what it leaves.
func TestCheckOnContainers(t *testing.T) {
	containerdtest.Need(t)
	d, err := containerdtest.Start(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { d.Kill() }()
	for _, env := range []string{"CGO_ENABLED=1", "CGO_ENABLED=0"} {
		t.Run(env, func(t *testing.T) {
			bin, tmp := build(t, "replicated-web", env), t.TempDir()
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, bin, "-runtime", "containerd", "-check", "-addr", "127.0.0.1:0")
			cmd.Env = append(os.Environ(), "CONTAINERD_ADDRESS="+d.Address, "CONTAINERD_NAMESPACE="+d.Namespace, "TMPDIR="+tmp)
			out, err := cmd.CombinedOutput()
			t.Logf("%s", out)
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range []string{"2000 requests, 0 failures", "killing", "serves again", "replicas showed it"} {
				if !strings.Contains(string(out), want) {
					t.Errorf("the output lacks %q", want)
				}
			}
			nothingLeft(t, d, tmp)
		})
	}
}

// nothingLeft fails the test if there is anything of the example: images, too.
func nothingLeft(t *testing.T, d *containerdtest.Daemon, tmp string) {
	t.Helper()
	left, err := d.Leftovers()
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %q, %v", left, err)
	}
	c, err := d.Client()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	images, err := c.ListImages(t.Context())
	if err != nil || len(images) > 0 {
		t.Errorf("left behind: images %v, %v", images, err)
	}
	if files, err := os.ReadDir(tmp); err != nil || len(files) > 0 {
		t.Errorf("left behind: files %v, %v", files, err)
	}
}

// Without a containerd it says what to do, and leaves nothing.
func TestWithoutContainerd(t *testing.T) {
	bin, tmp := build(t, "replicated-web"), t.TempDir()
	cmd := exec.Command(bin, "-runtime", "containerd", "-check", "-addr", "127.0.0.1:0")
	cmd.Env = append(os.Environ(), "CONTAINERD_ADDRESS="+filepath.Join(tmp, "nobody"), "TMPDIR="+tmp)
	out, err := cmd.CombinedOutput()
	if err == nil || cmd.ProcessState.ExitCode() != 1 || !strings.Contains(string(out), "install it") && !strings.Contains(string(out), "start it") {
		t.Errorf("it ended with %v: %s", err, out)
	}
	if files, err := os.ReadDir(tmp); err != nil || len(files) > 0 {
		t.Errorf("left behind: files %v, %v", files, err)
	}
}
