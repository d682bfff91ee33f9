//go:build linux

package containerdtest_test

import (
	"bytes"
	"context"
	"io"
	"os"
	"testing"

	"github.com/budgiehq/budgie/internal/containerdtest"
	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/containerd/v2/pkg/oci"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestMain(m *testing.M) {
	containerdtest.Isolate()
	os.Exit(m.Run())
}

// A container of an image made on the spot runs, and goes on running when
// containerd is killed and comes back.
func TestDaemon(t *testing.T) {
	containerdtest.Need(t)
	containerdtest.EachVersion(t, testDaemon)
}

func testDaemon(t *testing.T, v containerdtest.Version) {
	d, err := containerdtest.StartVersion(v, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { d.Kill() }()
	img, err := containerdtest.Busybox(ocispec.ImageConfig{Cmd: []string{"sh", "-c", "echo hello; exec cat"}})
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	const name = "docker.io/library/busybox:latest"
	if err := d.Import(ctx, img, name); err != nil {
		t.Fatal(err)
	}
	c, err := d.Client()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	image, err := c.GetImage(ctx, name)
	if err != nil {
		t.Fatal(err)
	}
	if err := image.Unpack(ctx, ""); err != nil {
		t.Fatal(err)
	}
	container, err := c.NewContainer(ctx, "one", containerd.WithNewSnapshot("one", image), containerd.WithNewSpec(oci.WithImageConfig(image)))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	stdin, hold, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	task, err := container.NewTask(ctx, cio.NewCreator(cio.WithStreams(stdin, &out, io.Discard)))
	if err != nil {
		t.Fatal(err)
	}
	if err := task.Start(ctx); err != nil {
		t.Fatal(err)
	}
	d.Kill()
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	if st, err := task.Status(ctx); err != nil || st.Status != containerd.Running {
		t.Fatalf("after a restart of containerd the task is %v, %v", st, err)
	}
	ended, err := task.Wait(ctx)
	if err != nil {
		t.Fatal(err)
	}
	hold.Close()
	if err := task.CloseIO(ctx, containerd.WithStdinCloser); err != nil {
		t.Fatal(err)
	}
	if st := <-ended; st.Error() != nil || st.ExitCode() != 0 {
		t.Fatalf("ended with %d, %v", st.ExitCode(), st.Error())
	}
	task.IO().Wait() // Delete closes the pipes, read to their end or not
	if _, err := task.Delete(context.WithoutCancel(ctx)); err != nil {
		t.Fatal(err)
	}
	if err := container.Delete(ctx, containerd.WithSnapshotCleanup); err != nil {
		t.Fatal(err)
	}
	if out.String() != "hello\n" {
		t.Fatalf("it printed %q", &out)
	}
}
