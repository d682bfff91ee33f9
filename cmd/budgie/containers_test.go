//go:build linux

package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/budgiehq/budgie/internal/containerdtest"
	"github.com/budgiehq/budgie/internal/ociimage"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/rogpeppe/go-internal/testscript"
)

// TestContainers takes containers of images through their life, with the real
// binary.
func TestContainers(t *testing.T) { containerScript(t, "container") }

// Commands run in a container, with a terminal where wanted, and it is looked at.
func TestContainerExec(t *testing.T) { containerScript(t, "exec") }

// Published UDP ports reach a container on the bridge.
func TestContainerUDP(t *testing.T) { containerScript(t, "udp") }

// Cases R1 and R3: after a reboot, what is to come back serves again without
// help, and what was stopped stays stopped.
func TestCaseR1Reboot(t *testing.T) { containerScript(t, "reboot") }

// Case R2: everything is killed, and serves again without a manual step.
func TestCaseR2KilledEverything(t *testing.T) { containerScript(t, "crash") }

// Case R4: a log is followed over the ends of supervisors and of containers.
func TestCaseR4FollowedLog(t *testing.T) { containerScript(t, "follow") }

// Case R6: an unhealthy container is restarted, each time a little later.
func TestCaseR6Unhealthy(t *testing.T) { containerScript(t, "unhealthy") }

// containerScript runs the real binary through a script of testdata/containerd,
// with a private containerd of every version and a registry on loopback.
func containerScript(t *testing.T, name string) {
	containerdtest.Need(t)
	containerdtest.EachVersion(t, func(t *testing.T, v containerdtest.Version) {
		testscript.Run(t, containerScripts(t, v, filepath.Join("testdata", "containerd", name+".txtar")))
	})
}

func containerScripts(t *testing.T, v containerdtest.Version, script string) testscript.Params {
	dir := shortDir(t)
	d, err := containerdtest.StartVersion(v, dir)
	if err != nil {
		t.Fatal(err)
	}
	// Not by defer: the script runs when this function has returned.
	t.Cleanup(func() { d.Kill() })
	img, err := containerdtest.GoProgram(filepath.Join(dir, "testserver"), "github.com/budgiehq/budgie/internal/testserver",
		ocispec.ImageConfig{Entrypoint: []string{containerdtest.ProgramPath}})
	if err != nil {
		t.Fatal(err)
	}
	busybox, err := containerdtest.Busybox(ocispec.ImageConfig{Cmd: []string{"sh"}, Env: []string{"PATH=/bin", "FROM_IMAGE=yes"}})
	if err != nil {
		t.Fatal(err)
	}
	for name, img := range map[string]ociimage.Image{"testserver": img, "busybox": busybox} {
		if err := d.Import(t.Context(), img, "docker.io/local/"+name+":latest"); err != nil {
			t.Fatal(err)
		}
	}
	registry := containerdtest.NewRegistry(t)
	registry.Push(img, "testserver", "1")
	registry.Push(img, "testserver", "2")
	p := scripts("", func(env *testscript.Env) error {
		env.Setenv("CONTAINERD_ADDRESS", d.Address)
		env.Setenv("CONTAINERD_NAMESPACE", d.Namespace)
		env.Setenv("REGISTRY", registry.Host)
		return nil
	})
	p.Files = []string{script}
	addFaults(p.Cmds, d)
	return p
}

// addFaults adds the commands by which scripts break things.
func addFaults(cmds map[string]func(*testscript.TestScript, bool, []string), d *containerdtest.Daemon) {
	cmds["killcontainerd"] = func(*testscript.TestScript, bool, []string) { d.Kill() }
	cmds["startcontainerd"] = func(ts *testscript.TestScript, _ bool, _ []string) { ts.Check(d.Start()) }
	// crash: SIGKILL for the supervisor, containerd, all shims and containers.
	cmds["crash"] = func(ts *testscript.TestScript, _ bool, _ []string) {
		pids := running(ts)
		cmdKillSupervisor(ts, false, nil)
		ts.Check(d.Crash(pids...))
	}
	// reboot: the same, and all that a machine forgets is gone; containerd is
	// started again.
	cmds["reboot"] = func(ts *testscript.TestScript, _ bool, _ []string) {
		pids := running(ts)
		cmdKillSupervisor(ts, false, nil)
		ts.Check(d.Reboot(pids...))
	}
	cmds["nothingleft"] = func(ts *testscript.TestScript, _ bool, _ []string) {
		left, err := d.Leftovers()
		ts.Check(err)
		if len(left) > 0 {
			ts.Fatalf("left behind: %q", left)
		}
	}
}

// running are the first processes of all containers that run.
func running(ts *testscript.TestScript) []int {
	var pids []int
	for _, e := range listed(ts) {
		if e.PID != 0 {
			pids = append(pids, e.PID)
		}
	}
	if len(pids) == 0 {
		ts.Fatalf("no container runs")
	}
	return pids
}

// shortDir is a temporary directory whose path leaves room for a socket's name:
// that of the test may be long.
func shortDir(t *testing.T) string {
	dir, err := os.MkdirTemp("", "containerd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}
