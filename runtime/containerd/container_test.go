//go:build linux

package containerd

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/internal/containerdtest"
	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/runtime"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// What the image says counts, where the file says nothing else.
func TestSpecificationFromImageAndFile(t *testing.T) {
	b := newBench(t)
	s := shell("pwd; id; hostname; echo $FROM_IMAGE $MINE $BUDGIE_NAME; cat /etc/hostname; grep -c suite /etc/hosts")
	s.Environment = append(s.Environment, "MINE=own")
	exit, out := b.end(s)
	want := "/tmp\nuid=0(root) gid=0(root) groups=0(root)\nsuite\nyes own suite\nsuite\n1\n"
	if exit.Code != 0 || out != want {
		t.Errorf("of the image: %d, %q, want %q", exit.Code, out, want)
	}
	s.Environment = append(s.Environment, "FROM_IMAGE=no")
	s.Image.Workdir, s.Image.User, s.Hostname = "/etc", "guest", "elsewhere"
	_, out = b.end(s)
	want = "/etc\nuid=405(guest) gid=100(users) groups=100(users),777(extra)\nelsewhere\nno own suite\nelsewhere\n0\n"
	if out != want {
		t.Errorf("of the file: %q, want %q", out, want)
	}
	s.Image.User = "1234:56"
	if _, out = b.end(s); !strings.Contains(out, "uid=1234 gid=56") {
		t.Errorf("as 1234:56: %q", out)
	}
}

// The defaults of containerd hold: few capabilities, a system call filter, no
// new privileges, and nothing of the host's kernel settings to write to.
func TestConfinement(t *testing.T) {
	b := newBench(t)
	_, out := b.end(shell("grep -E '^(CapEff|NoNewPrivs|Seccomp):' /proc/self/status; touch /proc/sys/x 2>/dev/null || echo sealed; " +
		"mount -t tmpfs none /tmp 2>/dev/null || echo no mounts; ls /dev/shm >/dev/null && echo shm"))
	for _, want := range []string{"CapEff:\t00000000a80425fb\n", "NoNewPrivs:\t1\n", "Seccomp:\t2\n", "sealed\n", "no mounts\n", "shm\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("the output %q lacks %q", out, want)
		}
	}
}

func TestVolumes(t *testing.T) {
	b := newBench(t)
	dir := t.TempDir()
	rw, ro := filepath.Join(dir, "made", "rw"), filepath.Join(dir, "ro")
	if err := os.Mkdir(ro, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(ro, "given"), []byte("hello\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	s := shell("cat /ro/given; echo kept > /rw/file; touch /ro/x 2>/dev/null || echo read-only")
	s.Volumes = []bunfile.Volume{{Source: rw, Target: "/rw"}, {Source: ro, Target: "/ro", Mode: bunfile.ReadOnly}}
	if _, out := b.end(s); out != "hello\nread-only\n" {
		t.Errorf("output %q", out)
	}
	if data, err := os.ReadFile(filepath.Join(rw, "file")); err != nil || string(data) != "kept\n" {
		t.Errorf("in the volume is %q, %v", data, err)
	}
}

// What is mounted below a volume is not hidden by it, whatever comes first in the file:
// neither another volume nor the files of /etc, which a volume that cannot be written
// needs places for.
func TestMountsBelowVolumes(t *testing.T) {
	b := newBench(t)
	dir := t.TempDir()
	for _, name := range []string{"etc/hosts", "outer/inner/hidden", "inner/seen"} {
		file := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, nil, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	etc := filepath.Join(dir, "etc")
	s := shell("ls /outer/inner; grep -c localhost /etc/hosts; ls /etc")
	s.Volumes = []bunfile.Volume{
		{Source: filepath.Join(dir, "inner"), Target: "/outer/inner"}, {Source: filepath.Join(dir, "outer"), Target: "/outer"},
		{Source: etc, Target: "/etc", Mode: bunfile.ReadOnly},
	}
	if exit, out := b.end(s); out != "seen\n2\nhosts\n" {
		t.Errorf("with a volume at /etc that is read only: %d, %q", exit.Code, out)
	}
	s.Volumes[2].Mode = bunfile.ReadWrite
	if exit, out := b.end(s); out != "seen\n2\nhostname\nhosts\nresolv.conf\n" {
		t.Errorf("with a volume at /etc: %d, %q", exit.Code, out)
	}
	if data, err := os.ReadFile(filepath.Join(etc, "hosts")); err != nil || len(data) != 0 {
		t.Errorf("the volume's own is %q, %v", data, err)
	}
}

func TestResourcesReachTheCgroup(t *testing.T) {
	b := newBench(t)
	s := shell("sleep 1000")
	s.Resources = bunfile.Resources{CPUShares: 512, CPUQuota: 50_000, MemoryLimit: 64 << 20, PidsLimit: 42}
	_, st := b.run(s)
	for _, want := range []struct{ v1, v2, value1, value2 string }{
		{"cpu/cpu.shares", "cpu.weight", "512", "20"},
		{"cpu/cpu.cfs_quota_us", "cpu.max", "50000", "50000 100000"},
		{"memory/memory.limit_in_bytes", "memory.max", "67108864", "67108864"},
		{"pids/pids.max", "pids.max", "42", "42"},
	} {
		controller, file, _ := strings.Cut(want.v1, "/")
		path, value := filepath.Join("/sys/fs/cgroup", controller, daemon(t).Namespace, st.ID, file), want.value1
		if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
			path, value = filepath.Join("/sys/fs/cgroup", daemon(t).Namespace, st.ID, want.v2), want.value2
		}
		if data, err := os.ReadFile(path); err != nil || strings.TrimSpace(string(data)) != value {
			t.Errorf("%s is %q (%v), want %s", path, data, err, value)
		}
	}
}

// A server may have as many connections as containerd may, and not the 1024 of its
// default specification.
func TestOpenFiles(t *testing.T) {
	b := newBench(t)
	var own syscall.Rlimit // which the test's containerd has, too
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &own); err != nil {
		t.Fatal(err)
	}
	if _, out := b.end(shell("ulimit -Hn")); out != fmt.Sprintln(own.Max) {
		t.Errorf("the limit is %q; want %d", out, own.Max)
	}
}

// A weight of block I/O is accepted on every kind of cgroup; what the kernel
// makes of it depends on its I/O scheduler.
func TestBlockIOWeight(t *testing.T) {
	b := newBench(t)
	s := shell("echo ran")
	s.Resources.BlkioWeight = 500
	if exit, out := b.end(s); exit.Code != 0 || out != "ran\n" {
		t.Errorf("it ended with %d, %q", exit.Code, out)
	}
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err != nil {
		return // on version 1 the file's name is the scheduler's
	}
	s = shell("sleep 1000")
	s.Resources.BlkioWeight = 500
	_, st := b.run(s)
	// 10 to 1000 become 1 to 10000, but for BFQ, which has a file of its own.
	file, value := filepath.Join("/sys/fs/cgroup", daemon(t).Namespace, st.ID, "io.bfq.weight"), "default 500"
	if _, err := os.Stat(file); err != nil {
		file, value = strings.Replace(file, ".bfq", "", 1), "default 4950"
	}
	if data, err := os.ReadFile(file); err != nil || strings.TrimSpace(string(data)) != value {
		t.Errorf("%s is %q (%v), want %s", file, data, err, value)
	}
}

// After a reboot there is the data, and nothing of containerd's state: the
// container is seen to have ended, nobody knows how, and starts again with the
// files that it had.
func TestStartAfterReboot(t *testing.T) {
	containerdtest.Need(t)
	containerdtest.EachVersion(t, testStartAfterReboot)
}

func testStartAfterReboot(t *testing.T, v containerdtest.Version) {
	d := private(t, v)
	b := &bench{T: t, dir: t.TempDir(), ctx: t.Context()}
	b.Runtime = open(t, d, b.dir)
	s := shell("cat /tmp/before 2>/dev/null; echo been here > /tmp/before; echo ready; sleep 1000")
	s.Network = bunfile.NetworkBridge
	id, st := b.run(s)
	b.waitFor(id, "ready")
	if err := b.Runtime.Close(); err != nil {
		t.Fatal(err)
	}
	if err := d.Reboot(st.PID); err != nil {
		t.Fatal(err)
	}
	b.Runtime = open(t, d, b.dir)
	defer func() { b.Runtime.Close() }()
	if st, err := b.Adopt(b.ctx, id); err != nil || st.State != lifecycle.Stopped || st.Exit.Code != lifecycle.UnknownExitCode {
		t.Fatalf("Adopt: %+v, %v", st, err)
	}
	if _, err := b.Start(b.ctx, id); err != nil {
		t.Fatal(err)
	}
	b.waitFor(id, "been here")
	if err := errors.Join(b.Stop(b.ctx, id, 0), b.Remove(b.ctx, id)); err != nil {
		t.Fatal(err)
	}
	if left, err := d.Leftovers(); err != nil || len(left) > 0 {
		t.Errorf("left behind: %q, %v", left, err)
	}
}

// A container that needs more memory than it has is killed, and its end says
// why, also if nobody supervised it then.
func TestOutOfMemory(t *testing.T) {
	b := newBench(t)
	s := shell("echo ready; cat /proc/self/cgroup >/dev/null; while [ ! -e /tmp/go ]; do sleep 0.02; done; exec tail -c 200000000 /dev/zero")
	s.Resources.MemoryLimit, s.Resources.MemorySwap = 16<<20, 16<<20
	id, _ := b.run(s)
	b.waitFor(id, "ready")
	b.sh(id, "touch /tmp/go")
	st, err := b.Wait(b.ctx, id)
	if err != nil || st.Exit == nil || !st.Exit.OOMKilled || st.Exit.Code != 137 {
		t.Errorf("supervised: %+v (%+v), %v", st, st.Exit, err)
	}
	if exit, _ := b.end(shell("kill -9 $$")); exit.OOMKilled {
		t.Error("one that killed itself is said to have run out of memory")
	}
}

// That a process of a container, or a command in it, was killed for lack of memory
// is not why it ended when it ends well or is stopped.
func TestOutOfMemoryBefore(t *testing.T) {
	b := newBench(t)
	s := shell("trap 'exit 0' TERM; echo ready; while true; do sleep 0.05; done")
	s.Resources.MemoryLimit, s.Resources.MemorySwap = 64<<20, 64<<20
	// The kernel is to choose the command, and not the first process.
	hungry := runtime.ExecConfig{Command: []string{"sh", "-c", "echo 1000 >/proc/self/oom_score_adj; exec tail -c 200000000 /dev/zero"}}
	for sig, want := range map[string]int{"TERM": 0, "none": 137} {
		id, begun := b.run(s)
		b.waitFor(id, "ready")
		if code, err := b.Exec(b.ctx, id, hungry); err != nil || code != 137 {
			t.Fatalf("the command that needs too much ended with %d, %v", code, err)
		}
		if sig == "TERM" {
			// Not by a command in the container, which would end with it.
			if err := syscall.Kill(begun.PID, syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
		} else if err := b.Stop(b.ctx, id, 0); err != nil {
			t.Fatal(err)
		}
		st, err := b.Wait(b.ctx, id)
		if err != nil || st.Exit == nil || st.Exit.Code != want || st.Exit.OOMKilled {
			t.Errorf("with signal %s: %+v (%+v), %v", sig, st, st.Exit, err)
		}
	}
}

// The image's stop signal is used: this image wants SIGUSR1.
func TestStopSignalOfImage(t *testing.T) {
	b := newBench(t)
	id, _ := b.run(shell("trap 'echo usr1; exit 3' USR1; trap 'echo term; exit 4' TERM; echo ready; while true; do sleep 0.05; done"))
	b.waitFor(id, "ready")
	if err := b.Stop(b.ctx, id, time.Minute); err != nil {
		t.Fatal(err)
	}
	st, err := b.Status(b.ctx, id)
	if err != nil || st.Exit == nil || st.Exit.Code != 3 || !strings.Contains(b.output(id), "usr1") {
		t.Fatalf("ended with %+v, %v: %q", st.Exit, err, b.output(id))
	}
}

// A stop signal of an image that is none is SIGTERM, and no reason to kill at once.
func TestStopSignalThatIsNone(t *testing.T) {
	b := newBench(t)
	for i, sig := range []string{"RUBBISH", "99", "0"} {
		busybox, err := containerdtest.Busybox(ocispec.ImageConfig{Env: []string{"PATH=/bin"}, StopSignal: sig})
		if err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprintf("docker.io/library/odd-signal:%d", i)
		if err := daemon(t).Import(b.ctx, busybox, name); err != nil {
			t.Fatal(err)
		}
		id, _ := b.run(spec(name, "sh", "-c", "trap 'exit 4' TERM; echo ready; while true; do sleep 0.05; done"))
		b.waitFor(id, "ready")
		if err := b.Stop(b.ctx, id, time.Minute); err != nil {
			t.Fatal(err)
		}
		if st, err := b.Status(b.ctx, id); err != nil || st.Exit == nil || st.Exit.Code != 4 {
			t.Errorf("with %s it ended with %+v, %v", sig, st.Exit, err)
		}
	}
}

// Network none has no interface but the loopback one.
func TestNetworkNone(t *testing.T) {
	b := newBench(t)
	s := shell("ip -o link | grep -v LOOPBACK | grep -c 'state UP'; ping -c 1 127.0.0.1 >/dev/null && echo loopback")
	s.Network = bunfile.NetworkNone
	if _, out := b.end(s); out != "0\nloopback\n" {
		t.Errorf("output %q", out)
	}
}

// On the bridge, containers have addresses of their own, reach each other, and
// may all use the same port.
func TestNetworkBridge(t *testing.T) {
	b := newBench(t)
	serve := shell("cd /tmp && echo page of $(hostname) > index.html && exec httpd -f -p $PORT")
	serve.Network = bunfile.NetworkBridge
	serve.Ports = []bunfile.Port{{ContainerPort: 80, Protocol: bunfile.TCP}}
	first, second := serve, serve
	first.Hostname, second.Hostname = "one", "two"
	id1, st1 := b.run(first)
	_, st2 := b.run(second)
	if len(st1.Addresses) != 1 || len(st2.Addresses) != 1 || st1.Addresses[0] == st2.Addresses[0] {
		t.Fatalf("addresses %v and %v", st1.Addresses, st2.Addresses)
	}
	got := b.sh(id1, fmt.Sprintf("for i in $(seq 100); do wget -q -O - http://%s/ && exit 0; sleep 0.05; done; exit 1", st2.Addresses[0].HostPort))
	if !strings.HasSuffix(got, "page of two\n") {
		t.Errorf("from one to two: %q", got)
	}
	resp, err := http.Get("http://" + st2.Addresses[0].HostPort)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if page, err := io.ReadAll(resp.Body); err != nil || string(page) != "page of two\n" {
		t.Errorf("from the host: %q, %v", page, err)
	}
}

// What a container wrote into its own file system is there after a stop and a
// start, as with Docker.
func TestFilesSurviveARestart(t *testing.T) {
	b := newBench(t)
	id, _ := b.run(shell("cat /tmp/counter 2>/dev/null; echo again >> /tmp/counter"))
	for range 2 {
		if _, err := b.Wait(b.ctx, id); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Start(b.ctx, id); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.Wait(b.ctx, id); err != nil {
		t.Fatal(err)
	}
	if out := b.output(id); out != "again\nagain\nagain\n" {
		t.Errorf("three runs printed %q", out)
	}
}

func TestExecOfWhatIsNotThere(t *testing.T) {
	b := newBench(t)
	id, _ := b.run(shell("sleep 1000"))
	_, err := b.Exec(b.ctx, id, runtime.ExecConfig{Command: []string{"no-such-program"}})
	if err == nil || !strings.Contains(err.Error(), "no-such-program") {
		t.Errorf("the error is %v", err)
	}
}
