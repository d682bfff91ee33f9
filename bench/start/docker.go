//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/budgiehq/budgie/internal/isolation"
	"github.com/budgiehq/budgie/internal/ociimage"
)

// docker is a private dockerd.
type docker struct {
	dir    string
	client string
	cmd    *exec.Cmd
	ended  chan struct{}
}

// dockerClient is where Debian puts it. Something else of that name may come
// first in PATH.
func dockerClient() (string, error) {
	const debian = "/usr/bin/docker"
	if _, err := os.Stat(debian); err == nil {
		return debian, nil
	}
	return exec.LookPath("docker")
}

// startDocker starts dockerd with everything of its own in dir, and loads the
// image.
func startDocker(ctx context.Context, dir string, img ociimage.Image) (_ *docker, err error) {
	d := &docker{dir: dir, ended: make(chan struct{})}
	if d.client, err = dockerClient(); err != nil {
		return nil, err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	if err := os.WriteFile(d.path("daemon.json"), []byte("{}"), 0o600); err != nil {
		return nil, err
	}
	log, err := os.Create(d.path("log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	d.cmd = exec.Command("dockerd", "--data-root", d.path("data"), "--exec-root", d.path("exec"), "--pidfile", d.path("pid"),
		"--host", "unix://"+d.path("socket"), "--config-file", d.path("daemon.json"),
		// Where it is found when the namespaces have ended.
		"--cgroup-parent", isolation.Scope(), "--log-level", "warn")
	d.cmd.Stdout, d.cmd.Stderr = log, log
	if err := d.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = d.cmd.Wait()
		close(d.ended)
	}()
	if err := until(ctx, "dockerd does not serve", d.serves); err != nil {
		d.stop()
		text, _ := os.ReadFile(d.path("log"))
		return nil, fmt.Errorf("%w\n%s", err, text)
	}
	return d, d.load(ctx, img)
}

func (d *docker) path(name string) string { return filepath.Join(d.dir, name) }

func (d *docker) serves() (bool, error) {
	select {
	case <-d.ended:
		return false, errors.New("dockerd has ended")
	default:
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", d.path("socket"))
	}}}
	res, err := client.Get("http://docker/_ping")
	if err != nil {
		return false, nil
	}
	return res.StatusCode == http.StatusOK, res.Body.Close()
}

func (d *docker) load(ctx context.Context, img ociimage.Image) error {
	f, err := os.Create(d.path("image.tar"))
	if err != nil {
		return err
	}
	if err := errors.Join(img.Archive(f, image), f.Close()); err != nil {
		return err
	}
	return d.run(ctx, "load", "--input", f.Name())
}

// stop ends the daemon, and its containerd with it.
func (d *docker) stop() {
	_ = d.cmd.Process.Signal(syscall.SIGTERM) // it may have ended already
	<-d.ended
}

func (d *docker) run(ctx context.Context, args ...string) error {
	return command(ctx, nil, d.client, append([]string{"--config", d.dir, "--host", "unix://" + d.path("socket")}, args...)...)
}

func (d *docker) contender() *contender {
	return &contender{
		name: nameDocker,
		start: func(ctx context.Context, name string, port int) error {
			return d.run(ctx, "run", "-d", "--name", name, "-p", fmt.Sprintf("127.0.0.1:%d:%d", port, serverPort),
				"-e", fmt.Sprintf("PORT=%d", serverPort), image)
		},
		remove: func(ctx context.Context, name string) error { return d.run(ctx, "rm", "-f", name) },
		supervisors: func() (memory, error) {
			return processes(func(p process) bool {
				return p.name == "dockerd" || p.name == "docker-proxy" ||
					strings.HasPrefix(p.name, "containerd") && slices.ContainsFunc(p.args, func(arg string) bool { return strings.HasPrefix(arg, d.dir) })
			})
		},
		inMany: true,
	}
}
