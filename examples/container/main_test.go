//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/budgiehq/budgie"
	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/internal/containerdtest"
	"github.com/budgiehq/budgie/runtime/containerd"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestMain(m *testing.M) {
	containerdtest.Isolate()
	os.Exit(m.Run())
}

const (
	serverImage  = "docker.io/local/testserver:latest"
	busyboxImage = "docker.io/library/busybox:latest"
)

// machine has a containerd with two images, and no Docker.
func machine(t *testing.T) *containerdtest.Daemon {
	t.Helper()
	containerdtest.Need(t)
	d, err := containerdtest.Start(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Kill)
	server, err := containerdtest.GoProgram(filepath.Join(t.TempDir(), "testserver"), "github.com/budgiehq/budgie/internal/testserver",
		ocispec.ImageConfig{Entrypoint: []string{containerdtest.ProgramPath}})
	if err != nil {
		t.Fatal(err)
	}
	busybox, err := containerdtest.Busybox(ocispec.ImageConfig{Env: []string{"PATH=/bin"}, StopSignal: "SIGUSR2"})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(d.Import(t.Context(), server, serverImage), d.Import(t.Context(), busybox, busyboxImage)); err != nil {
		t.Fatal(err)
	}
	t.Setenv("CONTAINERD_ADDRESS", d.Address)
	t.Setenv("CONTAINERD_NAMESPACE", d.Namespace)
	t.Setenv("BUDGIE_BIND", "127.0.0.1")
	t.Setenv("BUDGIE_INTERFACES", "lo")
	return d
}

func nothingLeft(t *testing.T, d *containerdtest.Daemon) {
	t.Helper()
	left, err := d.Leftovers()
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %q, %v", left, err)
	}
}

func get(t *testing.T, url string) string {
	t.Helper()
	res, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %s, %q, %v", url, res.Status, body, err)
	}
	return string(body)
}

// start starts the example, and returns it with the URL that it prints.
func start(t *testing.T, bin string) (*exec.Cmd, string) {
	t.Helper()
	cmd := exec.Command(bin, serverImage, "-host", "0.0.0.0")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	url, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return cmd, strings.TrimSpace(url)
}

// Cases E1 and E2: a container in a Go program needs no Docker, and what a killed
// program leaves is ended by the next start, without anything beside them.
func TestCaseE1CaseE2NoDocker(t *testing.T) {
	d := machine(t)
	for _, socket := range []string{"/run/docker.sock", "/var/run/docker.sock"} {
		if _, err := os.Stat(socket); err == nil {
			t.Fatalf("there is a %s", socket)
		}
	}
	bin := filepath.Join(t.TempDir(), "container")
	if out, err := exec.Command("go", "build", "-o", bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	usage := exec.Command(bin)
	if out, _ := usage.CombinedOutput(); usage.ProcessState.ExitCode() != 2 || !strings.Contains(string(out), "usage: container IMAGE") {
		t.Errorf("without an image it ends with %v: %s", usage.ProcessState, out)
	}
	t.Setenv("BUDGIE_DATA_DIR", t.TempDir())
	first, url := start(t, bin)
	if body := get(t, url); !strings.HasPrefix(body, "web ") {
		t.Errorf("got %q", body)
	}
	if err := first.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = first.Wait()
	if left, err := d.Present(); err != nil || len(left) == 0 {
		t.Fatalf("a killed program leaves %q, %v", left, err)
	}
	second, url := start(t, bin)
	get(t, url)
	shims, err := containerdtest.Processes("containerd-shim")
	if err != nil || len(shims) != 1 {
		t.Errorf("%d containers run, %v", len(shims), err)
	}
	if err := second.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := second.Wait(); err != nil {
		t.Errorf("after a stop signal: %v", err)
	}
	// It is stopped, and its files and its log are kept until it is removed.
	client := open(t)
	if err := client.Remove(t.Context(), "web"); err != nil {
		t.Fatal(err)
	}
	nothingLeft(t, d)
}

// open returns a client on containerd.
func open(t *testing.T) *budgie.Client {
	t.Helper()
	rt, err := containerd.New()
	if err != nil {
		t.Fatal(err)
	}
	client, err := budgie.New(budgie.WithRuntime(rt))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(client.Close(), rt.Close()); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return client
}

func container(name, image string, command ...string) bunfile.Spec {
	return bunfile.Spec{Version: bunfile.Version, Name: name, Image: bunfile.Image{DockerImage: image, Pull: bunfile.PullNever, Command: command}}
}

// Case E3: Run returns when the port answers, however many start at once: the
// first request succeeds.
func TestCaseE3FirstRequestSucceeds(t *testing.T) {
	d := machine(t)
	t.Setenv("BUDGIE_DATA_DIR", t.TempDir())
	client := open(t)
	var wg sync.WaitGroup
	for i := range 12 {
		wg.Go(func() {
			// The server takes its time before it listens.
			spec := container(fmt.Sprintf("web-%d", i), serverImage, "-host", "0.0.0.0", "-delay", "300ms")
			spec.Ports = []bunfile.Port{{ContainerPort: 80}}
			rec, err := client.Run(t.Context(), spec, budgie.AutoRemove())
			if err != nil {
				t.Error(err)
				return
			}
			res, err := http.Get(rec.URL())
			if err != nil {
				t.Error(err)
				return
			}
			body, err := io.ReadAll(res.Body)
			res.Body.Close()
			if err != nil || res.StatusCode != http.StatusOK || !strings.HasPrefix(string(body), spec.Name+" ") {
				t.Errorf("%s answers %s, %q, %v", spec.Name, res.Status, body, err)
			}
			if err := client.Stop(t.Context(), rec.ID); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if err := client.Close(); err != nil {
		t.Error(err)
	}
	nothingLeft(t, d)
}

// Case E4: when the context ends, the container is stopped, by the signal that its
// image declares.
func TestCaseE4ContextStops(t *testing.T) {
	d := machine(t)
	t.Setenv("BUDGIE_DATA_DIR", t.TempDir())
	client := open(t)
	ctx, cancel := context.WithCancel(t.Context())
	spec := container("job", busyboxImage, "sh", "-c", "trap 'echo by usr2; exit 3' USR2; trap 'exit 4' TERM; echo ready; while true; do sleep 0.05; done")
	rec, err := client.Run(ctx, spec)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	limited, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	if rec, err = client.Wait(limited, rec.ID); err != nil || rec.Exit == nil || rec.Exit.Code != 3 {
		t.Fatalf("it ended with %+v, %v", rec.Exit, err)
	}
	if err := client.Remove(limited, rec.ID); err != nil {
		t.Fatal(err)
	}
	nothingLeft(t, d)
}
