//go:build linux

package main

import (
	"path/filepath"
	"testing"

	"github.com/budgiehq/budgie/internal/containerdtest"
	"github.com/budgiehq/budgie/internal/ociimage"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/rogpeppe/go-internal/testscript"
)

// TestContainers runs the real binary through the scripts in
// testdata/containerd, one after the other, each with a private containerd, which
// it may kill, and a registry on loopback.
func TestContainers(t *testing.T) {
	containerdtest.Need(t)
	files, err := filepath.Glob("testdata/containerd/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("scripts %q, %v", files, err)
	}
	testserver, err := containerdtest.GoProgram(filepath.Join(t.TempDir(), "testserver"), "github.com/budgiehq/budgie/internal/testserver",
		ocispec.ImageConfig{Entrypoint: []string{containerdtest.ProgramPath}})
	if err != nil {
		t.Fatal(err)
	}
	busybox, err := containerdtest.Busybox(ocispec.ImageConfig{Cmd: []string{"sh"}, Env: []string{"PATH=/bin", "FROM_IMAGE=yes"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			containerScript(t, file, map[string]ociimage.Image{"testserver": testserver, "busybox": busybox})
		})
	}
}

func containerScript(t *testing.T, file string, images map[string]ociimage.Image) {
	d, err := containerdtest.Start(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	// Not by defer: the script runs when this function has returned.
	t.Cleanup(func() { d.Kill() })
	for name, img := range images {
		if err := d.Import(t.Context(), img, "docker.io/local/"+name+":latest"); err != nil {
			t.Fatal(err)
		}
	}
	registry := containerdtest.NewRegistry(t)
	registry.Push(images["testserver"], "testserver", "1")
	registry.Push(images["testserver"], "testserver", "2")
	p := scripts("", func(env *testscript.Env) error {
		env.Setenv("CONTAINERD_ADDRESS", d.Address)
		env.Setenv("CONTAINERD_NAMESPACE", d.Namespace)
		env.Setenv("REGISTRY", registry.Host)
		return nil
	})
	p.Files = []string{file}
	p.Cmds["killcontainerd"] = func(*testscript.TestScript, bool, []string) { d.Kill() }
	p.Cmds["startcontainerd"] = func(ts *testscript.TestScript, _ bool, _ []string) { ts.Check(d.Start()) }
	p.Cmds["nothingleft"] = func(ts *testscript.TestScript, _ bool, _ []string) {
		left, err := d.Leftovers()
		ts.Check(err)
		if len(left) > 0 {
			ts.Fatalf("left behind: %q", left)
		}
	}
	testscript.Run(t, p)
}
