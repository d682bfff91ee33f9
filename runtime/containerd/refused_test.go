//go:build linux

package containerd

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/internal/containerdtest"
	"github.com/budgiehq/budgie/internal/ociimage"
	"github.com/budgiehq/budgie/runtime"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Whatever is refused says what is wrong, and leaves nothing.
func TestRefusedVolumes(t *testing.T) {
	b := newBench(t)
	dir := t.TempDir()
	file, link := filepath.Join(dir, "file"), filepath.Join(dir, "link")
	if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Symlink(filepath.Join(dir, "nowhere"), link)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		volume bunfile.Volume
		text   string
	}{
		{bunfile.Volume{Source: file, Target: "/v"}, "is not a directory"},
		{bunfile.Volume{Source: link, Target: "/v"}, "is a link to something that does not exist"},
		{bunfile.Volume{Source: filepath.Join(dir, "none"), Target: "/v", Mode: bunfile.ReadOnly}, "does not exist, and a read-only volume is not created"},
		{bunfile.Volume{Source: "relative", Target: "/v"}, "is not an absolute path"},
	} {
		s := shell("true")
		// What is created for one volume is taken back because of the other.
		s.Volumes = []bunfile.Volume{{Source: filepath.Join(dir, "new", "deep"), Target: "/new"}, c.volume}
		b.refused(s, c.volume.Source, c.text)
	}
	if _, err := os.Stat(filepath.Join(dir, "new")); err == nil {
		t.Error("a refused container's volume source was created")
	}
}

// What is something else in the image, or cannot be mounted at.
func TestRefusedDirectories(t *testing.T) {
	b := newBench(t)
	s := shell("true")
	s.Image.Workdir = "/bin/busybox"
	b.refused(s, `working directory "/bin/busybox" is no directory in image`)
	s.Image.Workdir = "a/b" // as an image may have it
	b.refused(s, `working directory "a/b"`, "is not an absolute path: set image.workdir")
	for target, text := range map[string]string{
		"/etc/passwd":      `volume target "/etc/passwd" is no directory in image`,
		"/etc/passwd/a/b":  `volume target "/etc/passwd/a/b" cannot be made: "/etc/passwd" is no directory in image`,
		"/bin/sh/a":        `volume target "/bin/sh/a" cannot be made: "/bin/sh" is no directory in image`,
		"/dev":             "would hide the devices",
		"/etc/resolv.conf": "is a file that each container gets",
		"/proc/sys":        "is in /proc",
	} {
		s := shell("true")
		s.Volumes = []bunfile.Volume{{Source: t.TempDir(), Target: target}}
		b.refused(s, target, text)
	}
}

func TestRefusedCommands(t *testing.T) {
	b := newBench(t)
	b.refused(spec(busyboxImage, "no-such-command"), `command "no-such-command" cannot be run in image`, "there is no such file")
	b.refused(spec(busyboxImage, "/etc/passwd"), "it is not executable")
	b.refused(spec(busyboxImage, "/etc"), "it is a directory")
	b.refused(spec(programImage), "has no command of its own: set image.command")
	s := shell("true")
	s.Image.User = "nobody-knows"
	b.refused(s, "nobody-knows")
}

func TestRefusedResources(t *testing.T) {
	b := newBench(t)
	s := shell("true")
	s.Resources.MemoryLimit = 1 << 20
	b.refused(s, "resources.memory_limit is 1048576 bytes; a container needs", "6MiB")
	s.Resources = bunfile.Resources{MemoryLimit: 64 << 20, MemorySwap: 32 << 20}
	b.refused(s, "resources.memory_swap", "less than memory_limit")
}

func TestRefusedWithoutImage(t *testing.T) {
	b := newBench(t)
	s := shell("true")
	s.Image.DockerImage = ""
	if err := b.refused(s, "no image.docker_image"); !errors.Is(err, runtime.ErrUnsupported) {
		t.Errorf("%v is not ErrUnsupported", err)
	}
	s.Image.DockerImage = "Not A Reference"
	b.refused(s, "Not A Reference", "invalid reference format")
}

// fromRegistry is a container of an image in a registry.
func fromRegistry(name string) bunfile.Spec { return spec(name, "true") }

func registryImage(t *testing.T, arch string) ociimage.Image {
	t.Helper()
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatal(err)
	}
	// The name of the test makes its layer unlike those of other tests.
	img, err := ociimage.New(map[string]ociimage.File{
		"/bin/true": {Data: busybox, Mode: 0o755}, "/name": {Data: []byte(t.Name()), Mode: 0o644},
	}, ocispec.ImageConfig{Env: []string{"PATH=/bin"}}, arch)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func TestPull(t *testing.T) {
	b := newBench(t)
	registry := containerdtest.NewRegistry(t)
	img := registryImage(t, "")
	name := registry.Push(img, "team/tool", "1")
	never := fromRegistry(name)
	never.Image.Pull = bunfile.PullNever
	b.refused(never, name, "image.pull is never")
	if exit, out := b.end(fromRegistry(name)); exit.Code != 0 {
		t.Fatalf("it ended with %d: %s", exit.Code, out)
	}
	if exit, _ := b.end(never); exit.Code != 0 {
		t.Error("an image that is there now does not run")
	}
	// A tag that moved is followed when the policy says so, and only then.
	registry.Fault = func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusTeapot)
		return true
	}
	if exit, _ := b.end(fromRegistry(name)); exit.Code != 0 {
		t.Error("a local image is not used when the registry is out of order")
	}
	always := fromRegistry(name)
	always.Image.Pull = bunfile.PullAlways
	b.refused(always, name)
}

// Case I4: an image for another processor is refused before its layers are
// fetched, and also where it is there already.
func TestCaseI4WrongPlatform(t *testing.T) {
	b := newBench(t)
	registry := containerdtest.NewRegistry(t)
	img := registryImage(t, "s390x")
	err := b.refused(fromRegistry(registry.Push(img, "foreign", "1")), "linux/s390x", "this is linux/")
	if !errors.Is(err, ErrPlatform) {
		t.Errorf("%v is not ErrPlatform", err)
	}
	for digest, data := range img.Blobs {
		if len(data) > 100_000 && registry.Served(digest) > 0 {
			t.Error("a layer was fetched")
		}
	}
	if err := daemon(t).Import(b.ctx, img, "docker.io/library/foreign:local"); err != nil {
		t.Fatal(err)
	}
	b.refused(fromRegistry("foreign:local"), "linux/s390x")
}

// Case I4: an index without an image for this machine says which it has.
func TestCaseI4ForeignIndex(t *testing.T) {
	b := newBench(t)
	registry := containerdtest.NewRegistry(t)
	img := registryImage(t, "s390x")
	foreign, other := img.Manifest, img.Manifest
	foreign.Platform = &ocispec.Platform{OS: "linux", Architecture: "s390x"}
	other.Platform = &ocispec.Platform{OS: "unknown", Architecture: "unknown"} // as attestations have it
	index, err := json.Marshal(ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex,
		Manifests: []ocispec.Descriptor{foreign, other}})
	if err != nil {
		t.Fatal(err)
	}
	img.Manifest = ocispec.Descriptor{MediaType: ocispec.MediaTypeImageIndex, Digest: digest.FromBytes(index), Size: int64(len(index))}
	img.Blobs[img.Manifest.Digest] = index
	if err := b.refused(fromRegistry(registry.Push(img, "index", "1")), "linux/s390x", "this is linux/"); !errors.Is(err, ErrPlatform) {
		t.Errorf("%v is not ErrPlatform", err)
	}
}

func TestRefusedPulls(t *testing.T) {
	b := newBench(t)
	down, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	down.Close()
	b.refused(fromRegistry(down.Addr().String()+"/x:1"), down.Addr().String(), "connection refused")
	for _, c := range []struct {
		name  string
		fault func(img ociimage.Image, w http.ResponseWriter, req *http.Request) bool
		texts []string
	}{
		{"not there", func(img ociimage.Image, w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(http.StatusNotFound)
			return true
		}, []string{"does not have it; check its name and tag"}},
		{"login", func(_ ociimage.Image, w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("WWW-Authenticate", `Basic realm="private"`)
			w.WriteHeader(http.StatusUnauthorized)
			return true
		}, []string{"wants a login"}},
		{"rubbish", func(_ ociimage.Image, w http.ResponseWriter, _ *http.Request) bool {
			_, _ = w.Write([]byte("<html>welcome to the hotel's network</html>"))
			return true
		}, []string{"it answers with text/html, which is no image"}},
		{"wrong digest", func(_ ociimage.Image, w http.ResponseWriter, req *http.Request) bool {
			if !strings.Contains(req.URL.Path, "/blobs/") {
				return false
			}
			_, _ = w.Write([]byte("something else"))
			return true
		}, []string{"pull it from"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			registry := containerdtest.NewRegistry(t)
			img := registryImage(t, "")
			registry.Fault = func(w http.ResponseWriter, req *http.Request) bool { return c.fault(img, w, req) }
			b.refused(fromRegistry(registry.Push(img, "broken", "1")), append(c.texts, registry.Host)...)
		})
	}
}

// A registry that is not there is named once, with what to look at.
func TestRegistryIsAway(t *testing.T) {
	b := newBench(t)
	for name, want := range map[string]string{
		"127.0.0.1:1/web:1":    "the registry 127.0.0.1:1 cannot be reached: see whether it runs",
		"nosuch.invalid/web:1": "the name of the registry nosuch.invalid cannot be looked up",
	} {
		err := b.refused(fromRegistry(name), want)
		if strings.Contains(err.Error(), "https://") {
			t.Errorf("it speaks of what nobody asked for: %v", err)
		}
	}
}

// What failed on the way may well come later, and what was refused will not.
func TestBrokenTransfers(t *testing.T) {
	request := func(err error) error {
		return fmt.Errorf("fetch: %w", &url.Error{Op: "Get", URL: "https://registry/v2/", Err: err})
	}
	reset := &net.OpError{Op: "read", Err: syscall.ECONNRESET}
	for _, c := range []struct {
		err  error
		want bool
	}{
		{reset, true}, {request(reset), true}, {request(io.EOF), true}, {request(context.DeadlineExceeded), true},
		{request(&tls.CertificateVerificationError{Err: errors.New("unknown authority")}), false},
		{request(errors.New("stopped after 10 redirects")), false},
		{errors.New("no such manifest"), false},
		{fmt.Errorf("copy: %w", &fs.PathError{Op: "write", Path: "data", Err: syscall.ENOSPC}), false},
	} {
		if got := broken(c.err); got != c.want {
			t.Errorf("broken(%v) = %v", c.err, got)
		}
	}
}

func TestUnreachable(t *testing.T) {
	dir := t.TempDir()
	deaf := filepath.Join(dir, "deaf.sock")
	l, err := net.Listen("unix", deaf)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	check := func(address string, texts ...string) {
		t.Helper()
		r, err := New(WithAddress(address), WithDataDir(dir))
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		err = r.Supports(t.Context(), shell("true"))
		if !errors.Is(err, runtime.ErrUnsupported) {
			t.Errorf("%v is not ErrUnsupported", err)
		}
		for _, text := range texts {
			if err != nil && !strings.Contains(err.Error(), text) {
				t.Errorf("the error is %q; want %q in it", err, text)
			}
		}
		if all, err := r.List(t.Context()); err != nil || len(all) != 0 {
			t.Errorf("List = %v, %v", all, err)
		}
	}
	check(deaf, "not running", "systemctl start containerd")
	path := os.Getenv("PATH")
	t.Setenv("PATH", dir)
	check(filepath.Join(dir, "none.sock"), "not installed", "apt-get install containerd")
	if err := os.WriteFile(filepath.Join(dir, "containerd"), nil, 0o755); err != nil {
		t.Fatal(err)
	}
	check(filepath.Join(dir, "none.sock"), "not running")
	t.Setenv("PATH", path)
}

// withoutPermission is what a plain user's program is told.
func withoutPermission(address, source string) error {
	r, err := New(WithAddress(address))
	if err != nil {
		return err
	}
	defer r.Close()
	return errors.Join(r.Supports(context.Background(), shell("true")),
		checkSources([]bunfile.Volume{{Source: source, Target: "/v"}}))
}

// Root meets neither, so a plain user asks: for a containerd that is root's, and
// for a volume that only its owner may read.
func TestWithoutPermission(t *testing.T) {
	d := daemon(t)
	source := filepath.Join(t.TempDir(), "private")
	if err := os.Mkdir(source, 0o700); err != nil {
		t.Fatal(err)
	}
	for dir := filepath.Dir(source); dir != "/tmp" && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(d.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe", supervisorSwitch, "supports", d.Address, source, "-", "-")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	cmd.Dir = "/"
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, want := range []string{"no permission to use containerd at " + d.Address + ": run this as root", source + `" cannot be read: `} {
		if !strings.Contains(string(out), want) {
			t.Errorf("it prints %q; want %q in it", out, want)
		}
	}
}

// A user who is not there: the error says who named it, and image.user takes the
// place of the image's.
func TestRefusedUsers(t *testing.T) {
	b := newBench(t)
	for i, user := range []string{"no-such-user", "1:2:3", "99999999999"} {
		busybox, err := containerdtest.Busybox(ocispec.ImageConfig{Cmd: []string{"sh"}, Env: []string{"PATH=/bin", "ODD=yes"}, User: user})
		if err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprintf("docker.io/library/odd:%d", i)
		if err := daemon(t).Import(b.ctx, busybox, name); err != nil {
			t.Fatal(err)
		}
		s := spec(name, "sh", "-c", "echo $ODD; id -u")
		if text := b.refused(s, "from the image's config", user).Error(); strings.Count(text, "image.user") != 1 {
			t.Errorf("the error is %q", text)
		}
		s.Image.User = "12"
		if _, out := b.end(s); out != "yes\n12\n" {
			t.Errorf("with image.user: %q", out)
		}
		s.Image.User = "nor-this-one"
		if text := b.refused(s, "image.user", "nor-this-one").Error(); strings.Contains(text, "config") {
			t.Errorf("the error is %q", text)
		}
	}
	id, _ := b.run(shell("exec sleep 1000"))
	_, err := b.Exec(b.ctx, id, runtime.ExecConfig{Command: []string{"id"}, User: "no-such-user"})
	if !errors.Is(err, runtime.ErrCommand) || !strings.Contains(err.Error(), `"no-such-user"`) || strings.Contains(err.Error(), "image.user") {
		t.Errorf("a command as a user who is not there: %v", err)
	}
}
