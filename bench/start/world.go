//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/budgiehq/budgie/internal/containerdtest"
	"github.com/budgiehq/budgie/internal/ociimage"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	// image is what everybody runs: a web server that is a single static file.
	image = "docker.io/bench/testserver:latest"
	// serverPort is where it listens in a network of its own.
	serverPort = 8080
	// patience bounds a single step.
	patience = time.Minute
)

// world is the place in which everything is measured: a private containerd, a
// private dockerd with a containerd of its own, and Budgie's command as users
// build it.
type world struct {
	dir        string
	containerd *containerdtest.Daemon
	docker     *docker // nil without
	contenders []*contender
	// endHolder ends the container for which there always is a supervisor.
	endHolder func(ctx context.Context) error
	// unmount undoes the mounts.
	unmount func()
	// nextPort is a port that nobody has used yet.
	nextPort int
}

// A contender is a way to start a container.
type contender struct {
	name string
	// start runs a container that serves on a port of 127.0.0.1, or at the
	// address that addr returns where that is set, and returns when the command
	// does.
	start func(ctx context.Context, name string, port int) error
	addr  func() string
	// startAll starts several; nil for commands side by side.
	startAll func(ctx context.Context, names []string, ports []int) error
	// remove ends a container and returns when nothing of it is left.
	remove func(ctx context.Context, name string) error
	// supervisors are the processes that this contender's containers need.
	supervisors func() (memory, error)
	// inMany is set for those that take part in the start of many at once.
	inMany bool
}

func newWorld(ctx context.Context, s settings) (_ *world, err error) {
	dir, err := os.MkdirTemp("", "start-")
	if err != nil {
		return nil, err
	}
	w := &world{dir: dir, nextPort: 20000}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close())
		}
	}()
	img, err := containerdtest.GoProgram(w.path("testserver"), "github.com/budgiehq/budgie/internal/testserver",
		ocispec.ImageConfig{Entrypoint: []string{containerdtest.ProgramPath, "-host", "0.0.0.0"}})
	if err != nil {
		return nil, err
	}
	if err := w.startContainerd(ctx, img); err != nil {
		return nil, err
	}
	if s.docker {
		if w.docker, err = startDocker(ctx, w.path("docker"), img); err != nil {
			return nil, err
		}
		w.contenders = append(w.contenders, w.docker.contender())
	}
	budgies, err := w.budgies(ctx)
	if err != nil {
		return nil, err
	}
	ctrs, err := w.ctrs()
	w.contenders = append(append(w.contenders, budgies...), ctrs...)
	return w, err
}

// budgie is the command.
func (w *world) budgie() string { return w.path("budgie") }

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

// startContainerd starts the private containerd, with the image unpacked as a
// first container leaves it.
func (w *world) startContainerd(ctx context.Context, img ociimage.Image) error {
	dir := w.path("containerd")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	var err error
	if w.containerd, err = containerdtest.Start(dir); err != nil {
		return err
	}
	if err := w.containerd.Import(ctx, img, image); err != nil {
		return err
	}
	c, err := w.containerd.Client()
	if err != nil {
		return err
	}
	defer c.Close()
	i, err := c.GetImage(ctx, image)
	if err != nil {
		return err
	}
	return i.Unpack(ctx, "")
}

// close ends the daemons. What else there is ends with the namespaces.
func (w *world) close() error {
	if w.docker != nil {
		w.docker.stop()
	}
	if w.containerd != nil {
		w.containerd.Kill()
	}
	if w.unmount != nil {
		w.unmount()
	}
	return os.RemoveAll(w.dir)
}

// port returns one that was not used before.
func (w *world) port() int {
	w.nextPort++
	return w.nextPort
}

// command runs a command to its end. Its output is in its error.
func command(ctx context.Context, env []string, name string, args ...string) error {
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), env...)
	// A daemon that it leaves behind is not waited for.
	cmd.WaitDelay = time.Millisecond
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		return fmt.Errorf("%s: %w\n%s", cmd, err, &out)
	}
	return nil
}

// until waits for a condition that has no event.
func until(ctx context.Context, what string, done func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", what, ctx.Err())
		case <-tick.C:
		}
	}
}
