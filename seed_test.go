package budgie_test

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/budgiehq/budgie"
	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/discovery/discoverytest"
	"github.com/budgiehq/budgie/internal/testenv"
	"github.com/budgiehq/budgie/replica"
	"github.com/budgiehq/budgie/replica/replicatest"
	"github.com/budgiehq/budgie/runtime"
	"github.com/budgiehq/budgie/runtime/runtimetest"
	"github.com/budgiehq/budgie/trust"
)

// files is what a volume holds in these tests.
func files() replicatest.Tree {
	return replicatest.Tree{
		"index.html": replicatest.F("<h1>hi</h1>"),
		"sub":        {},
		"sub/large":  replicatest.F(strings.Repeat("0123456789abcdef", 1<<16)),
	}
}

// withVolume is web with a volume at /data.
func withVolume(name, source string) bunfile.Spec {
	spec := web(name)
	spec.Volumes = []bunfile.Volume{{Source: source, Target: "/data", Mode: bunfile.ReadWrite}}
	return spec
}

// seedLog remembers what OnSeed told.
type seedLog []budgie.SeedProgress

func (l *seedLog) option() budgie.RunOption {
	return budgie.OnSeed(func(_ string, p budgie.SeedProgress) { *l = append(*l, p) })
}

// last returns the last event of a step.
func (l seedLog) last(step budgie.SeedStep) (budgie.SeedProgress, bool) {
	for i := len(l) - 1; i >= 0; i-- {
		if l[i].Step == step {
			return l[i], true
		}
	}
	return budgie.SeedProgress{}, false
}

// startSpy sees what a runtime starts.
type startSpy struct {
	*runtimetest.Fake
	created func(runtime.Config)
}

// Name implements budgie.Runtime.
func (*startSpy) Name() string { return "spy" }

// Create implements budgie.Runtime.
func (s *startSpy) Create(ctx context.Context, cfg runtime.Config) error {
	s.created(cfg)
	return s.Fake.Create(ctx, cfg)
}

// runWithVolume runs a service whose volume has files, and returns the directory.
func runWithVolume(t *testing.T, on *fakes) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "source")
	replicatest.Build(t, dir, files())
	if _, err := on.Run(t.Context(), withVolume("web", dir)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// V10: a replica's volumes are there, whole and verified, before anything of it
// is created: their digest is that of the owner's. The next one gets them from
// the replica, when the owner is gone.
func TestCaseV10SeedBeforeStart(t *testing.T) {
	network, token := discoverytest.NewNetwork(), trust.NewToken()
	a := newNode(t, network, token)
	source := runWithVolume(t, a)
	_, owners, err := replicatest.Copy(t.Context(), replica.New(), source, filepath.Join(t.TempDir(), "reference"))
	if err != nil {
		t.Fatal(err)
	}
	var created int
	var log seedLog
	spy := &startSpy{Fake: runtimetest.NewFake(), created: func(cfg runtime.Config) {
		created++
		done, ok := log.last(budgie.SeedDone)
		if !ok || done.Report.Digest != owners.Digest || cfg.Spec.Volumes[0].Source != done.Volume.Dir {
			t.Errorf("created with the volume %+v after %+v; want digest %s", cfg.Spec.Volumes, done, owners.Digest)
		}
		if p := done.Progress; p.Files != 2 || p.TotalFiles != 2 || p.Bytes != done.Report.Bytes || p.TotalBytes != p.Bytes {
			t.Errorf("when it was done it was as far as %+v", p)
		}
		if diff := replicatest.Diff(source, cfg.Spec.Volumes[0].Source); diff != "" {
			t.Error(diff)
		}
	}}
	b := newNode(t, network, token, budgie.WithRuntime(spy))
	data := t.TempDir()
	c := newNode(t, network, token, budgie.WithDataDir(data))

	plan, err := b.PlanJoin(t.Context(), "web")
	if err != nil || len(plan.Volumes) != 1 || plan.Volumes[0].Target != "/data" || plan.Spec.Volumes[0].Source != plan.Volumes[0].Dir {
		t.Fatalf("planned %+v, %v", plan, err)
	}
	second, err := b.Join(t.Context(), "web", log.option(), budgie.OnRuntime("spy"))
	if err != nil {
		t.Fatal(err)
	}
	if created != 1 || second.Spec.Volumes[0].Source != plan.Volumes[0].Dir {
		t.Errorf("created %d times, with %+v", created, second.Spec.Volumes)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	third, err := c.Join(t.Context(), "web")
	if err != nil {
		t.Fatal(err)
	}
	dir := third.Spec.Volumes[0].Source
	sameWithin(t, source, dir)
	if rel, err := filepath.Rel(data, dir); err != nil || !filepath.IsLocal(rel) {
		t.Errorf("the copy is in %s, which is not below the data directory %s", dir, data)
	}
}

// cutSyncer cuts the connection of its first Receive after so many bytes.
type cutSyncer struct {
	budgie.Syncer
	after int64
	done  atomic.Bool
}

var errCut = errors.New("the cable is out")

// Receive implements budgie.Syncer.
func (s *cutSyncer) Receive(ctx context.Context, conn io.ReadWriter, dir string, opts replica.ReceiveOptions) (replica.Report, error) {
	if !s.done.CompareAndSwap(false, true) {
		return s.Syncer.Receive(ctx, conn, dir, opts)
	}
	return s.Syncer.Receive(ctx, struct {
		io.Reader
		io.Writer
	}{io.MultiReader(io.LimitReader(conn, s.after), failing{}), conn}, dir, opts)
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errCut }

// A copy that is cut off fails the join, which leaves no container, and the next
// one goes on from there.
func TestSeedCut(t *testing.T) {
	network, token := discoverytest.NewNetwork(), trust.NewToken()
	a := newNode(t, network, token)
	source := filepath.Join(t.TempDir(), "source")
	tree := replicatest.Tree{}
	noise := rand.NewChaCha8([32]byte{8}) // which nobody can compress
	for _, name := range []string{"a", "b", "c", "d"} {
		content := make([]byte, 1<<20)
		_, _ = noise.Read(content) // never fails
		tree[name] = replicatest.F(string(content))
	}
	replicatest.Build(t, source, tree)
	if _, err := a.Run(t.Context(), withVolume("web", source)); err != nil {
		t.Fatal(err)
	}
	b := newNode(t, network, token, budgie.WithSyncer(&cutSyncer{Syncer: replica.New(), after: 5 << 19}))
	_, err := b.Join(t.Context(), "web")
	if !errors.Is(err, errCut) || !strings.Contains(err.Error(), "volume /data") || !strings.Contains(err.Error(), "need not come again") {
		t.Fatalf("got %v", err)
	}
	if recs := records(t, b); len(recs) != 0 {
		t.Errorf("it leaves %+v", recs)
	}
	var log seedLog
	rec, err := b.Join(t.Context(), "web", log.option())
	if err != nil {
		t.Fatal(err)
	}
	sameWithin(t, source, rec.Spec.Volumes[0].Source)
	if done, _ := log.last(budgie.SeedDone); done.Report.Transferred > 3<<20 || done.Report.Transferred == 0 {
		t.Errorf("%d bytes came again", done.Report.Transferred)
	}
}

// What a replica changed in its copy is not overwritten by the next join but put
// aside; a copy that nobody touched is taken as it is.
func TestSeedKeepsChanges(t *testing.T) {
	network, token := discoverytest.NewNetwork(), trust.NewToken()
	a, b := newNode(t, network, token), newNode(t, network, token)
	source := runWithVolume(t, a)
	join := func() (dir string, log seedLog) {
		t.Helper()
		rec, err := b.Join(t.Context(), "web", log.option())
		if err != nil {
			t.Fatal(err)
		}
		sameWithin(t, source, rec.Spec.Volumes[0].Source)
		if err := b.Remove(t.Context(), rec.ID, budgie.Force()); err != nil {
			t.Fatal(err)
		}
		return rec.Spec.Volumes[0].Source, log
	}
	dir, _ := join()
	half := filepath.Join(filepath.Dir(dir), ".tmp-123") // of a join that was killed
	noError(t, os.WriteFile(half, nil, 0o600))
	_, log := join()
	if _, err := os.Stat(half); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what a killed join left is still there: %v", err)
	}
	if _, kept := log.last(budgie.SeedKept); kept {
		t.Error("an untouched copy was put aside")
	}
	if done, _ := log.last(budgie.SeedDone); done.Report.Transferred != 0 {
		t.Errorf("of an untouched copy %d bytes came again", done.Report.Transferred)
	}
	if err := os.WriteFile(filepath.Join(dir, "mine"), []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, log = join()
	kept, ok := log.last(budgie.SeedKept)
	if !ok || len(kept.Report.Conflicts) != 1 {
		t.Fatalf("nothing was put aside: %+v", log)
	}
	if got, err := os.ReadFile(kept.Report.Conflicts[0].Kept); err != nil || string(got) != "precious" {
		t.Errorf("the replica's own file: %q, %v, after %+v", got, err, log)
	}
}

// V1: a source that is emptied, as by an unmounted disk, does not empty the copy
// of an earlier join: the next one is refused, and says why.
func TestCaseV1EmptiedSource(t *testing.T) {
	network, token := discoverytest.NewNetwork(), trust.NewToken()
	a, b := newNode(t, network, token), newNode(t, network, token)
	source := runWithVolume(t, a)
	rec, err := b.Join(t.Context(), "web")
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Remove(t.Context(), rec.ID, budgie.Force()); err != nil {
		t.Fatal(err)
	}
	noError(t, os.RemoveAll(source))
	noError(t, os.Mkdir(source, 0o755))
	_, err = b.Join(t.Context(), "web")
	if !errors.Is(err, replica.ErrEmptied) || !strings.Contains(err.Error(), "unmounted") {
		t.Errorf("got %v; want ErrEmptied", err)
	}
	dir := rec.Spec.Volumes[0].Source
	if got, err := os.ReadFile(filepath.Join(dir, "index.html")); err != nil || string(got) != "<h1>hi</h1>" {
		t.Errorf("the copy has %q, %v", got, err)
	}
	// Who wants an empty one removes the copy.
	noError(t, os.RemoveAll(dir))
	if _, err := b.Join(t.Context(), "web"); err != nil {
		t.Error(err)
	}
}

// A disk that is full in the midst of a copy is said to be, with where; nothing
// of a container is left, and the join works when there is room.
func TestSeedFullDisk(t *testing.T) {
	testenv.NeedRoot(t)
	network, token := discoverytest.NewNetwork(), trust.NewToken()
	data := t.TempDir()
	mount := func(size string) {
		t.Helper()
		if out, err := exec.Command("mount", "-t", "tmpfs", "-o", size, "tmpfs", data).CombinedOutput(); err != nil {
			t.Fatalf("mount: %v: %s", err, out)
		}
	}
	mount("size=640k")
	t.Cleanup(func() {
		if out, err := exec.Command("umount", "-l", data).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	a, b := newNode(t, network, token), newNode(t, network, token, budgie.WithDataDir(data))
	source := runWithVolume(t, a)
	_, err := b.Join(t.Context(), "web")
	if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), data) || !strings.Contains(err.Error(), "see that there is room") {
		t.Fatalf("got %v", err)
	}
	if recs := records(t, b); len(recs) != 0 {
		t.Errorf("it leaves %+v", recs)
	}
	mount("remount,size=16m")
	rec, err := b.Join(t.Context(), "web")
	if err != nil {
		t.Fatal(err)
	}
	sameWithin(t, source, rec.Spec.Volumes[0].Source)
}

// What a node does not hand out, why, and that the next one is asked.
func TestSeedRefused(t *testing.T) {
	for _, c := range []struct {
		name string
		// spoil makes the volume one that cannot be had; data is the data
		// directory of its node.
		spoil func(t *testing.T, source, data string)
		want  string
	}{
		{"Gone", func(t *testing.T, source, _ string) { noError(t, os.RemoveAll(source)) }, "gone"},
		{"File", func(t *testing.T, source, _ string) {
			noError(t, os.RemoveAll(source))
			noError(t, os.WriteFile(source, nil, 0o600))
		}, "single file"},
		{"DataDir", func(t *testing.T, source, data string) {
			noError(t, os.RemoveAll(source))
			noError(t, os.Symlink(filepath.Dir(data), source))
		}, "private key"},
	} {
		t.Run(c.name, func(t *testing.T) {
			network, token := discoverytest.NewNetwork(), trust.NewToken()
			data := t.TempDir()
			a, b, d := newNode(t, network, token, budgie.WithDataDir(data)), newNode(t, network, token), newNode(t, network, token)
			source := runWithVolume(t, a)
			if _, err := b.Join(t.Context(), "web"); err != nil {
				t.Fatal(err)
			}
			c.spoil(t, source, data)
			var log seedLog
			rec, err := d.Join(t.Context(), "web", log.option())
			if err != nil {
				t.Fatal(err)
			}
			failed, ok := log.last(budgie.SeedFailed)
			if !ok || failed.Err == nil || !strings.Contains(failed.Err.Error(), c.want) || strings.Contains(failed.Err.Error(), source) {
				t.Errorf("the owner said %v; want %q, without its path", failed.Err, c.want)
			}
			if got, err := os.ReadFile(filepath.Join(rec.Spec.Volumes[0].Source, "index.html")); err != nil || string(got) != "<h1>hi</h1>" {
				t.Errorf("from the replica came %q, %v", got, err)
			}
		})
	}
}

// Two joins of a service at once on one machine do not write into one copy.
func TestSeedOnce(t *testing.T) {
	network, token := discoverytest.NewNetwork(), trust.NewToken()
	a := newNode(t, network, token)
	runWithVolume(t, a)
	entered, leave := make(chan struct{}), make(chan struct{})
	b := newNode(t, network, token, budgie.WithSyncer(&slowSyncer{replica.New(), entered, leave}))
	done := make(chan error, 1)
	go func() {
		_, err := b.Join(t.Context(), "web")
		done <- err
	}()
	<-entered
	if _, err := b.Join(t.Context(), "web", budgie.Named("other")); !errors.Is(err, budgie.ErrJoined) || !strings.Contains(err.Error(), "under way") {
		t.Errorf("got %v", err)
	}
	close(leave)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// slowSyncer says when a Receive begins, and lets it go on when leave is closed.
type slowSyncer struct {
	budgie.Syncer
	entered chan<- struct{}
	leave   <-chan struct{}
}

// Receive implements budgie.Syncer.
func (s *slowSyncer) Receive(ctx context.Context, conn io.ReadWriter, dir string, opts replica.ReceiveOptions) (replica.Report, error) {
	select {
	case s.entered <- struct{}{}:
	case <-time.After(10 * time.Second):
		return replica.Report{}, errors.New("nobody looked")
	}
	<-s.leave
	return s.Syncer.Receive(ctx, conn, dir, opts)
}

// Root does not write volumes where another user could lead it elsewhere.
func TestSeedForeignDataDir(t *testing.T) {
	testenv.NeedRoot(t)
	network, token := discoverytest.NewNetwork(), trust.NewToken()
	data := t.TempDir()
	noError(t, os.Chown(data, 65534, 65534))
	a, b := newNode(t, network, token), newNode(t, network, token, budgie.WithDataDir(data))
	runWithVolume(t, a)
	if _, err := b.Join(t.Context(), "web"); !errors.Is(err, budgie.ErrNotAllowed) || !strings.Contains(err.Error(), "another user") {
		t.Errorf("got %v", err)
	}
}

func noError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// What a client may receive per second holds for the volumes of a join.
func TestSyncRate(t *testing.T) {
	network, token := discoverytest.NewNetwork(), trust.NewToken()
	a := newNode(t, network, token)
	source := filepath.Join(t.TempDir(), "source")
	noise := make([]byte, 400<<10)
	_, _ = rand.NewChaCha8([32]byte{7}).Read(noise)
	replicatest.Build(t, source, replicatest.Tree{"f": replicatest.F(string(noise))})
	if _, err := a.Run(t.Context(), withVolume("web", source)); err != nil {
		t.Fatal(err)
	}
	b := newNode(t, network, token, budgie.WithSyncRate(512<<10))
	var began time.Time
	var took time.Duration
	_, err := b.Join(t.Context(), "web", budgie.OnSeed(func(_ string, p budgie.SeedProgress) {
		switch p.Step {
		case budgie.SeedStarted:
			began = time.Now()
		case budgie.SeedDone:
			took = time.Since(began)
		}
	}))
	if err != nil || took < 600*time.Millisecond {
		t.Errorf("400 KiB at 512 KiB/s took %s (%v)", took, err)
	}
	t.Setenv("BUDGIE_SYNC_RATE", "-1")
	if c, err := budgie.New(budgie.WithDataDir(t.TempDir())); err == nil || !strings.Contains(err.Error(), "BUDGIE_SYNC_RATE") {
		t.Errorf("a negative rate gives %v, %v", c, err)
	}
}
