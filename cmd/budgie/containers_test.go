//go:build linux

package main

import (
	"path/filepath"
	"testing"

	"github.com/budgiehq/budgie/internal/containerdtest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/rogpeppe/go-internal/testscript"
)

// TestContainers runs the real binary through the scripts in
// testdata/containerd, with a private containerd and a registry on loopback.
func TestContainers(t *testing.T) {
	containerdtest.Need(t)
	d, err := containerdtest.Start(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	// Not by defer: the scripts run when this function has returned.
	t.Cleanup(func() { d.Kill() })
	img, err := containerdtest.GoProgram(filepath.Join(t.TempDir(), "testserver"), "github.com/budgiehq/budgie/internal/testserver",
		ocispec.ImageConfig{Entrypoint: []string{containerdtest.ProgramPath}})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Import(t.Context(), img, "docker.io/local/testserver:latest"); err != nil {
		t.Fatal(err)
	}
	registry := containerdtest.NewRegistry(t)
	registry.Push(img, "testserver", "1")
	registry.Push(img, "testserver", "2")
	p := scripts("testdata/containerd", func(env *testscript.Env) error {
		env.Setenv("CONTAINERD_ADDRESS", d.Address)
		env.Setenv("CONTAINERD_NAMESPACE", d.Namespace)
		env.Setenv("REGISTRY", registry.Host)
		return nil
	})
	p.Cmds["killcontainerd"] = func(*testscript.TestScript, bool, []string) { d.Kill() }
	p.Cmds["startcontainerd"] = func(ts *testscript.TestScript, _ bool, _ []string) { ts.Check(d.Start()) }
	p.Cmds["nothingleft"] = func(ts *testscript.TestScript, _ bool, _ []string) {
		left, err := d.Leftovers()
		ts.Check(err)
		if len(left) > 0 {
			ts.Fatalf("left behind: %q", left)
		}
	}
	// One after the other: they share containerd, and look for what is left of
	// any container.
	files, err := filepath.Glob(filepath.Join(p.Dir, "*.txtar"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts in %s: %v", p.Dir, err)
	}
	p.Dir = ""
	for _, file := range files {
		p.Files = []string{file}
		t.Run("script", func(t *testing.T) { testscript.Run(t, p) })
	}
}
