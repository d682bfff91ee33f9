//go:build linux || darwin

package process

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/runtime"
	"github.com/budgiehq/budgie/runtime/runtimetest"
)

func TestSupports(t *testing.T) {
	f := newFixture(t)
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	uid, gid := strconv.Itoa(os.Getuid()), strconv.Itoa(os.Getgid())
	volumes := func(targets ...string) func(*bunfile.Spec) {
		return func(s *bunfile.Spec) {
			for _, target := range targets {
				s.Volumes = append(s.Volumes, bunfile.Volume{Source: "/src", Target: target})
			}
		}
	}
	asUser := func(name string) func(*bunfile.Spec) { return func(s *bunfile.Spec) { s.Image.User = name } }
	for name, test := range map[string]struct {
		change func(*bunfile.Spec)
		want   string // part of the error, empty for none
	}{
		"plain":          {func(*bunfile.Spec) {}, ""},
		"limits":         {func(s *bunfile.Spec) { s.Resources.PidsLimit = 3 }, ""},
		"host":           {func(s *bunfile.Spec) { s.Network = bunfile.NetworkHost }, ""},
		"image":          {func(s *bunfile.Spec) { s.Image.DockerImage = "nginx" }, "container runtime"},
		"no command":     {func(s *bunfile.Spec) { s.Image.Command = nil }, "image.command"},
		"empty command":  {func(s *bunfile.Spec) { s.Image.Command = []string{""} }, "image.command"},
		"no network":     {func(s *bunfile.Spec) { s.Network = bunfile.NetworkNone }, "network"},
		"my name":        {asUser(me.Username), ""},
		"my uid":         {asUser(uid), ""},
		"my uid and gid": {asUser(uid + ":" + gid), ""},
		"other uid":      {asUser("12345"), "image.user"},
		"other gid":      {asUser(uid + ":12345"), "image.user"},
		"no such user":   {asUser("no-such-user"), "image.user"},
		"volumes":        {volumes("/a", "/ab", "/b/c"), ""},
		"nested":         {volumes("/a/b", "/a"), "inside each other"},
		"twice":          {volumes("/a", "/a/"), "inside each other"},
		"root":           {volumes("/"), "root"},
	} {
		s := spec("sleep")
		test.change(&s)
		err := f.Supports(t.Context(), s)
		if test.want == "" && err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if test.want != "" && (!errors.Is(err, runtime.ErrUnsupported) || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: error %v, want runtime.ErrUnsupported and %q", name, err, test.want)
		}
	}
}

// tree lists all that is below a directory.
func tree(t *testing.T, dir string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		out = append(out, path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestCreateErrors: each says what is wrong, and leaves nothing.
func TestCreateErrors(t *testing.T) {
	f := newFixture(t)
	work := t.TempDir()
	file := filepath.Join(work, "file")
	dangling := filepath.Join(work, "dangling")
	if err := errors.Join(os.WriteFile(file, []byte("#!/bin/sh\n"), 0o600), os.Symlink("/nowhere", dangling)); err != nil {
		t.Fatal(err)
	}
	volume := func(source string, mode bunfile.VolumeMode) func(*bunfile.Spec) {
		return func(s *bunfile.Spec) {
			s.Volumes = []bunfile.Volume{
				{Source: filepath.Join(work, "made", "deep"), Target: "/first"},
				{Source: source, Target: "/second", Mode: mode},
			}
		}
	}
	commandIs := func(name string) func(*bunfile.Spec) {
		return func(s *bunfile.Spec) {
			volume(work, bunfile.ReadWrite)(s)
			s.Image.Command = []string{name}
		}
	}
	for want, change := range map[string]func(*bunfile.Spec){
		"not found in PATH": commandIs("no-such-command"),
		"does not exist":    commandIs("/no/such/command"),
		"is not executable": commandIs(file),
		"is a directory":    commandIs(work),
		"begins at the working directory, does not exist": commandIs("./relative"),
		"is not a directory; only":                        volume(file, bunfile.ReadWrite),
		"does not exist, and a read-only volume":          volume(filepath.Join(work, "missing"), bunfile.ReadOnly),
		"is a link to something":                          volume(dangling, bunfile.ReadWrite),
		"is not an absolute path":                         volume("relative", bunfile.ReadWrite),
	} {
		s := spec("sleep")
		change(&s)
		before := append(tree(t, f.dir), tree(t, work)...)
		err := f.Create(t.Context(), runtime.Config{ID: runtimetest.NewID(), Spec: s})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error is %v, want %q", err, want)
		}
		if after := append(tree(t, f.dir), tree(t, work)...); !slices.Equal(before, after) {
			t.Errorf("%q: before there was %q, now %q", want, before, after)
		}
	}
}

// TestVolumes: a container works in its volumes under their targets, and
// Remove leaves them as they are.
func TestVolumes(t *testing.T) {
	f := newFixture(t)
	source := filepath.Join(t.TempDir(), "made", "here")
	s := spec("write", "sub/file", "text")
	s.Image.Workdir = "/var/data/work"
	s.Volumes = []bunfile.Volume{{Source: source, Target: "/var/data"}}
	id := f.create(s)
	if err := os.Mkdir(filepath.Join(source, "work", "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Start(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if st, err := f.Wait(t.Context(), id); err != nil || st.Exit.Code != 0 {
		t.Fatalf("writing gives %+v, %v", st, err)
	}
	// A directory in root that nobody may enter, and a link out of it.
	if err := errors.Join(
		os.MkdirAll(f.path(id, "root", "closed", "inner"), 0o700),
		os.Symlink(source, f.path(id, "root", "closed", "link")),
		os.Chmod(f.path(id, "root", "closed"), 0),
	); err != nil {
		t.Fatal(err)
	}
	if err := f.Remove(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(filepath.Join(source, "work", "sub", "file")); err != nil || string(data) != "text" {
		t.Fatalf("after Remove the volume's file is %q, %v", data, err)
	}
	if left := tree(t, f.dir); len(left) != 1 {
		t.Fatalf("Remove leaves %q", left)
	}
}

// TestHostileRoot: links that a container leaves in its root lead nothing that
// the next start builds out of it.
func TestHostileRoot(t *testing.T) {
	f := newFixture(t)
	outside, source := t.TempDir(), t.TempDir()
	s := spec("exit", "0")
	s.Volumes = []bunfile.Volume{{Source: source, Target: "/a/b/c"}}
	s.Image.Workdir = "/w/x"
	id := f.create(s)
	for _, p := range []string{"a", "w"} {
		if err := errors.Join(os.RemoveAll(f.path(id, "root", p)), os.Symlink(outside, f.path(id, "root", p))); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Start(t.Context(), id); err == nil {
			t.Errorf("a start through the link %s works", p)
		}
		if err := os.Remove(f.path(id, "root", p)); err != nil {
			t.Fatal(err)
		}
	}
	if left := tree(t, outside); len(left) != 1 {
		t.Fatalf("outside there is now %q", left)
	}
	if _, err := f.Start(t.Context(), id); err != nil {
		t.Fatalf("without the links: %v", err)
	}
	if _, err := f.Wait(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	// A source that has gone since is an error of the start, not a dead link.
	if err := os.Remove(source); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Start(t.Context(), id); err == nil || !strings.Contains(err.Error(), "volume source") {
		t.Errorf("Start without the volume's source gives %v", err)
	}
}

// TestInterruptedCreateAndRemove: what a killed call left is cleaned up by the
// next one for the same container.
func TestInterruptedCreateAndRemove(t *testing.T) {
	f := newFixture(t)
	id := runtimetest.NewID()
	half := func(prefix string) {
		if err := os.MkdirAll(f.path(prefix+id, "root"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	half(".new-")
	if err := f.Remove(t.Context(), id); !errors.Is(err, runtime.ErrNotFound) {
		t.Errorf("Remove after half a Create gives %v", err)
	}
	half(".old-")
	if err := f.Remove(t.Context(), id); err != nil {
		t.Errorf("Remove after half a Remove gives %v", err)
	}
	if left := tree(t, f.dir); len(left) != 1 {
		t.Fatalf("left is %q", left)
	}
	half(".new-")
	half(".old-")
	if err := f.Create(t.Context(), runtime.Config{ID: id, Spec: spec("sleep")}); err != nil {
		t.Fatal(err)
	}
	if all, err := f.List(t.Context()); err != nil || len(all) != 1 {
		t.Fatalf("List is %v, %v", all, err)
	}
}

// TestCannotRecord: a start that cannot be recorded does not happen.
func TestCannotRecord(t *testing.T) {
	f := newFixture(t)
	id := f.create(spec("sleep"))
	cfg, err := f.loadConfig(id)
	if err != nil {
		t.Fatal(err)
	}
	// A directory in the file's place stops root, too.
	status := f.path(id, "status.json")
	if err := errors.Join(os.Remove(status), os.MkdirAll(filepath.Join(status, "x"), 0o700)); err != nil {
		t.Fatal(err)
	}
	if _, err := f.launch(t.Context(), cfg, record{}); err == nil {
		t.Fatal("a start works whose record cannot be written")
	}
	wantNoProcess(t, id)
	if err := os.RemoveAll(status); err != nil {
		t.Fatal(err)
	}
}

// TestUnrecordedEnd: the end of a container that cannot be recorded is known to
// the program that saw it, and the container can be started again.
func TestUnrecordedEnd(t *testing.T) {
	f := newFixture(t)
	id := f.run(spec("graceful", "7"))
	f.firstLine(id)
	status := f.path(id, "status.json")
	kept, err := os.ReadFile(status)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Remove(status), os.MkdirAll(filepath.Join(status, "x"), 0o700)); err != nil {
		t.Fatal(err)
	}
	if err := f.Stop(t.Context(), id, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	for _, look := range []func(context.Context, string) (runtime.Status, error){f.Status, f.Wait} {
		if st, err := look(t.Context(), id); err != nil || st.Exit == nil || st.Exit.Code != 7 {
			t.Errorf("the end is seen as %+v, %v", st, err)
		}
	}
	if err := errors.Join(os.RemoveAll(status), os.WriteFile(status, kept, 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Start(t.Context(), id); err != nil {
		t.Errorf("Start after that: %v", err)
	}
}

// TestUnrecordedRelease: a container whose release cannot be recorded is not another's,
// and the next attempt makes up for it.
func TestUnrecordedRelease(t *testing.T) {
	f := newFixture(t)
	id := f.run(spec("sleep"))
	status := f.path(id, "status.json")
	kept, err := os.ReadFile(status)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Remove(status), os.MkdirAll(filepath.Join(status, "x"), 0o700)); err != nil {
		t.Fatal(err)
	}
	if err := f.Release(t.Context(), id); err == nil {
		t.Error("a release works that cannot be recorded")
	}
	if err := errors.Join(os.RemoveAll(status), os.WriteFile(status, kept, 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := f.Release(t.Context(), id); err != nil {
		t.Error(err)
	}
	other := open(t, f.dir)
	defer other.Close()
	if st, err := other.Adopt(t.Context(), id); err != nil || st.State != lifecycle.Running {
		t.Errorf("Adopt returned %+v, %v", st, err)
	}
}

func TestLimitsAreWarnedAboutOnce(t *testing.T) {
	var out strings.Builder
	f := newFixture(t, WithLogger(slog.New(slog.NewTextHandler(&out, nil))))
	for range 2 {
		s := spec("sleep")
		s.Resources.MemoryLimit = 1 << 20
		f.create(s)
	}
	if n := strings.Count(out.String(), "not enforced"); n != 1 {
		t.Errorf("%d warnings in %q", n, out.String())
	}
}

func TestLogLimit(t *testing.T) {
	f := newFixture(t, WithLogLimit(1000, 2))
	out := f.output(spec("count", "500"))
	if len(out) == 0 || out[len(out)-1] != "499" {
		t.Fatalf("followed %q", out)
	}
	all, err := f.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var size int64
	for _, p := range tree(t, f.path(all[0].ID, "log"))[1:] {
		info, err := os.Stat(p)
		if err != nil {
			t.Fatal(err)
		}
		size += info.Size()
	}
	if size == 0 || size > 2000 {
		t.Errorf("%d bytes of log are kept, want at most 2000", size)
	}
}

// TestCancelledStart: a start whose context ends before the gate opens does not
// happen.
func TestCancelledStart(t *testing.T) {
	f := newFixture(t)
	id := f.create(spec("sleep"))
	cfg, err := f.loadConfig(id)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), -time.Second)
	defer cancel()
	if _, err := f.launch(ctx, cfg, record{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("launch gives %v", err)
	}
	wantNoProcess(t, id)
	if st, err := f.Status(t.Context(), id); err != nil || st.State != "created" {
		t.Fatalf("status is %+v, %v", st, err)
	}
}
