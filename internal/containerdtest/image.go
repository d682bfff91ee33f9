//go:build linux

package containerdtest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/budgiehq/budgie/internal/ociimage"
	containerd "github.com/containerd/containerd/v2/client"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Import puts an image into the daemon, in its namespace, under a full name
// such as docker.io/library/busybox:latest.
func (d *Daemon) Import(ctx context.Context, img ociimage.Image, name string) error {
	c, err := d.Client()
	if err != nil {
		return err
	}
	defer c.Close()
	var archive bytes.Buffer
	if err := img.Archive(&archive, name); err != nil {
		return err
	}
	_, err = c.Import(ctx, &archive, containerd.WithAllPlatforms(true))
	return err
}

// Busybox makes an image of Debian's busybox-static with some of its commands.
func Busybox(config ocispec.ImageConfig) (ociimage.Image, error) {
	data, err := readProgram("busybox")
	if err != nil {
		return ociimage.Image{}, err
	}
	files := map[string]ociimage.File{
		"/bin/busybox": {Data: data, Mode: 0o755},
		"/etc/passwd":  {Data: []byte("root:x:0:0:root:/root:/bin/sh\nguest:x:405:100:guest:/tmp:/bin/sh\n"), Mode: 0o644},
		"/etc/group":   {Data: []byte("root:x:0:\nusers:x:100:\nextra:x:777:guest\n"), Mode: 0o644},
		"/tmp/.keep":   {Mode: 0o644},
	}
	for _, name := range []string{"sh", "sleep", "cat", "echo", "id", "hostname", "ls", "mount", "touch", "env", "true", "false",
		"wget", "dd", "grep", "ip", "ping", "kill", "trap", "mknod", "head", "stat", "nc", "httpd", "seq", "pwd", "tail"} {
		files["/bin/"+name] = ociimage.File{Link: "busybox"}
	}
	return ociimage.New(files, config, "")
}

func readProgram(name string) ([]byte, error) {
	file, err := exec.LookPath(name)
	if err != nil {
		return nil, err
	}
	return os.ReadFile(file)
}

// ProgramPath is where the image of [Program] has its program.
const ProgramPath = "/program"

// Program makes an image of the test program of runtimetest and nothing else.
// dir takes the program.
func Program(dir string) (ociimage.Image, error) {
	return GoProgram(filepath.Join(dir, "program"), "github.com/budgiehq/budgie/internal/containerprogram", ocispec.ImageConfig{})
}

// GoProgram builds a program into file, without cgo, and makes an image of it,
// as ProgramPath, and nothing else.
func GoProgram(file, pkg string, config ocispec.ImageConfig) (ociimage.Image, error) {
	program, err := BuildProgram(file, pkg)
	if err != nil {
		return ociimage.Image{}, err
	}
	return ociimage.New(map[string]ociimage.File{ProgramPath: program, "/tmp/.keep": {Mode: 0o644}}, config, "")
}

// BuildProgram builds a program into file, without cgo, and returns it as a file
// of an image.
func BuildProgram(file, pkg string) (ociimage.File, error) {
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", file, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		return ociimage.File{}, fmt.Errorf("build %s: %w\n%s", pkg, err, out)
	}
	data, err := os.ReadFile(file)
	return ociimage.File{Data: data, Mode: 0o755}, err
}
