package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/budgiehq/budgie"
	"github.com/budgiehq/budgie/internal/handover"
)

// home is a data directory with a container that serves.
type home struct {
	t   *testing.T
	dir string
	exe string // budgie
	env []string
}

// newHome returns a home whose container is run in the background.
func newHome(t *testing.T, name string, port int) *home {
	t.Helper()
	h := &home{t: t, dir: t.TempDir(), exe: filepath.Join(binDir, "budgie")}
	h.begin(name, port)
	h.run("run", "-d", filepath.Join(h.dir, "web.bun"))
	return h
}

// begin writes the container's file.
func (h *home) begin(name string, port int) {
	h.t.Helper()
	data := filepath.Join(h.dir, "data")
	h.env = append(os.Environ(), "PATH="+binDir+":"+os.Getenv("PATH"), "BUDGIE_DATA_DIR="+data, "BUDGIE_BIND=127.0.0.1",
		"BUDGIE_INTERFACES="+loopback(), "CONTAINERD_ADDRESS="+filepath.Join(h.dir, "none"))
	h.t.Cleanup(func() { endAll(data) })
	text := fmt.Sprintf("version: \"1.0\"\nname: %s\nimage: {command: [testserver]}\nenvironment: [GREETING=hello]\nports: [{container_port: 80, host_port: %d}]\nhealthcheck: {path: /}\n", name, port)
	if err := os.WriteFile(filepath.Join(h.dir, "web.bun"), []byte(text), 0o600); err != nil {
		h.t.Fatal(err)
	}
}

func (h *home) command(exe string, args ...string) *exec.Cmd {
	cmd := exec.Command(exe, args...)
	cmd.Env = h.env
	return cmd
}

// run runs a command to its end.
func (h *home) run(args ...string) {
	h.t.Helper()
	if out, err := h.command(h.exe, args...).CombinedOutput(); err != nil {
		h.t.Fatalf("budgie %v: %v\n%s", args, err, out)
	}
}

// outputBuffer is what a command has printed so far.
type outputBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *outputBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

// String returns all of it.
func (b *outputBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// replaceable is a command that was started.
type replaceable struct {
	*exec.Cmd
	out   *outputBuffer
	ended chan error
}

func (h *home) start(args ...string) *replaceable {
	h.t.Helper()
	r := &replaceable{h.command(h.exe, args...), new(outputBuffer), make(chan error, 1)}
	r.Stdout, r.Stderr, r.WaitDelay = r.out, r.out, time.Second
	if err := r.Start(); err != nil {
		h.t.Fatal(err)
	}
	go func() {
		err := r.Wait()
		if errors.Is(err, exec.ErrWaitDelay) {
			err = nil // a successor goes on printing there
		}
		r.ended <- err
	}()
	h.t.Cleanup(func() { _ = r.Process.Kill() }) // it has ended, most likely
	return r
}

// awaitOutput waits until a command has printed a text.
func (r *replaceable) awaitOutput(t *testing.T, want string) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(20 * time.Second); !strings.Contains(r.out.String(), want); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("it does not say %q, but:\n%s", want, r.out)
		}
	}
}

// await waits for the end of a command, which has to be one in peace.
func (r *replaceable) await(t *testing.T) {
	t.Helper()
	select {
	case err := <-r.ended:
		if err != nil {
			t.Fatalf("budgie ended with %v:\n%s", err, r.out)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("it does not end")
	}
}

// awaitSupervising waits until a command supervises.
func (r *replaceable) awaitSupervising(t *testing.T, h *home) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(20 * time.Second); ; <-tick.C {
		pid, err := supervisorPID(filepath.Join(h.dir, "data"))
		if err == nil && pid == r.Process.Pid {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("process %d supervises, %v", pid, err)
		}
	}
}

// askAgain asks an address over and over, on new connections and kept-alive ones, until
// stop, which returns how often. What fails is an error of the test.
func askAgain(t *testing.T, url string) (asked *atomic.Int64, stop func()) {
	t.Helper()
	asked = new(atomic.Int64)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			tr := &http.Transport{DisableKeepAlives: i%2 == 0, MaxIdleConnsPerHost: 1}
			defer tr.CloseIdleConnections()
			c := http.Client{Transport: tr, Timeout: 15 * time.Second}
			for ctx.Err() == nil {
				method, body := http.MethodGet, io.Reader(nil)
				if i%3 == 0 {
					method, body = http.MethodPost, strings.NewReader("x")
				}
				req, err := http.NewRequest(method, url, body)
				if err != nil {
					t.Error(err)
					return
				}
				resp, err := c.Do(req)
				if err != nil {
					t.Errorf("%s %s (kept alive: %t): %v", method, url, i%2 != 0, err)
					return
				}
				_, err = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				if err != nil || resp.StatusCode != http.StatusOK {
					t.Errorf("%s %s: status %d, %v", method, url, resp.StatusCode, err)
					return
				}
				asked.Add(1)
			}
		})
	}
	return asked, func() {
		cancel()
		wg.Wait()
	}
}

// until waits until a number has grown by so much.
func until(t *testing.T, n *atomic.Int64, more int64) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	from := n.Load()
	for end := time.Now().Add(20 * time.Second); n.Load() < from+more; <-tick.C {
		if time.Now().After(end) || t.Failed() {
			t.Fatalf("%d requests were answered, not %d", n.Load()-from, more)
		}
	}
}

// A balancer is replaced, again and again, while it is asked: no connection is
// refused, no request is lost.
func TestCaseB9BalancerIsReplaced(t *testing.T) {
	h := newHome(t, "replaced-4713", 29473)
	const addr = "127.0.0.1:29474"
	now := h.start("chirp", "-balance", addr, "-take-over", "replaced-4713")
	awaitServed(t, "http://"+addr)
	asked, stop := askAgain(t, "http://"+addr+"/")
	for range 3 {
		until(t, asked, 100)
		before := now
		now = h.start("chirp", "-balance", addr, "-take-over", "replaced-4713")
		before.await(t)
		if text := before.out.String(); !strings.Contains(text, "another process has taken over") {
			t.Errorf("it says %s", text)
		}
	}
	until(t, asked, 100)
	stop()
	t.Logf("%d requests", asked.Load())
	_ = now.Process.Signal(syscall.SIGTERM) // it runs
	now.await(t)
}

// The supervisor is replaced, again and again, while the ports that it publishes are
// asked.
func TestCaseB9SupervisorIsReplaced(t *testing.T) {
	h := newHome(t, "replaced-4714", 29475)
	awaitServed(t, "http://127.0.0.1:29475")
	asked, stop := askAgain(t, "http://127.0.0.1:29475/")
	var now *replaceable
	for i := range 3 {
		until(t, asked, 100)
		before := now
		args := []string{"supervise", "-take-over"}
		if i == 1 {
			args = append(args, "-stay")
		}
		now = h.start(args...)
		if before != nil {
			before.await(t)
		}
		now.awaitSupervising(t, h)
	}
	until(t, asked, 100)
	stop()
	t.Logf("%d requests", asked.Load())
	h.run("rm", "-f", "replaced-4714")
	now.await(t) // nothing is left to supervise
}

// Of two who want to take over at the same time one may be told to come later; the other
// does.
func TestCaseB9TwoSuccessors(t *testing.T) {
	h := newHome(t, "replaced-4715", 29476)
	awaitServed(t, "http://127.0.0.1:29476")
	asked, stop := askAgain(t, "http://127.0.0.1:29476/")
	defer stop()
	until(t, asked, 100)
	one, two := h.start("supervise", "-take-over"), h.start("supervise", "-take-over")
	var err error
	select {
	case err = <-one.ended:
		one, two = two, one
	case err = <-two.ended:
	case <-time.After(30 * time.Second):
		t.Fatal("both supervise")
	}
	if err != nil && !strings.Contains(two.out.String(), "another process is taking over just now") {
		t.Errorf("it ended with %v:\n%s", err, two.out)
	}
	one.awaitSupervising(t, h)
	until(t, asked, 100)
	stop()
	h.run("rm", "-f", "replaced-4715")
	one.await(t)
}

// install puts a budgie into the home's directory that is no other's, and that can be
// replaced by another build of it.
func (h *home) install() (another func()) {
	h.t.Helper()
	h.exe = filepath.Join(h.dir, "budgie")
	data, err := os.ReadFile(filepath.Join(binDir, "budgie"))
	if err == nil {
		err = os.WriteFile(h.exe, data, 0o755)
	}
	if err != nil {
		h.t.Fatal(err)
	}
	return func() {
		h.t.Helper()
		next := filepath.Join(h.dir, "next")
		if out, err := exec.Command("go", "build", "-ldflags", "-s -w", "-o", next, ".").CombinedOutput(); err != nil {
			h.t.Fatalf("build another budgie: %v\n%s", err, out)
		}
		if err := os.Rename(next, h.exe); err != nil {
			h.t.Fatal(err)
		}
	}
}

// isNow reports whether a process runs the file that is installed now.
func (h *home) isNow(pid int) bool {
	h.t.Helper()
	a, err := os.Stat(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		h.t.Fatal(err)
	}
	b, err := os.Stat(h.exe)
	if err != nil {
		h.t.Fatal(err)
	}
	return os.SameFile(a, b)
}

// What "run -d" started is upgraded to another build under load, by one command. Where the
// new build is none, it goes on; and it goes on where a successor dies in the middle.
func TestCaseB9Upgrade(t *testing.T) {
	h := &home{t: t, dir: t.TempDir()}
	another := h.install()
	h.begin("upgraded-4716", 29477)
	h.run("run", "-d", filepath.Join(h.dir, "web.bun"))
	data := filepath.Join(h.dir, "data")
	asked, stop := askAgain(t, "http://127.0.0.1:29477/")
	defer stop()
	until(t, asked, 100)
	before, err := supervisorPID(data)
	if err != nil {
		t.Fatal(err)
	}

	if err := os.Rename(h.exe, h.exe+".good"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(h.exe, []byte("#!/bin/sh\nexit 3\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := h.command(filepath.Join(binDir, "budgie"), "upgrade").CombinedOutput(); err == nil || !strings.Contains(string(out), fmt.Sprintf("process %d goes on: the successor ended (exit status 3)", before)) {
		t.Errorf("an upgrade to rubbish: %v\n%s", err, out)
	}
	until(t, asked, 100)

	o, err := handover.Ask(t.Context(), filepath.Join(data, "handover"), "supervisor")
	if err != nil {
		t.Fatal(err)
	}
	sockets, err := o.Release("client-that-dies")
	if err != nil {
		t.Fatal(err)
	}
	if len(sockets) == 0 {
		t.Error("no socket was handed over")
	}
	until(t, asked, 100) // while the one has let go, and the other does not serve
	for _, s := range sockets {
		s.Close()
	}
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
	until(t, asked, 100)

	another()
	pid := before
	for range 3 {
		out, err := h.command(h.exe, "upgrade").CombinedOutput()
		if err != nil || !strings.HasPrefix(string(out), fmt.Sprintf("process %d: process ", pid)) {
			t.Fatalf("upgrade: %v\n%s", err, out)
		}
		was := pid
		if pid, err = supervisorPID(data); err != nil || pid == was || !h.isNow(pid) {
			t.Fatalf("process %d supervises, %v", pid, err)
		}
		until(t, asked, 100)
	}
	stop()
	t.Logf("%d requests", asked.Load())
	h.run("rm", "-f", "upgraded-4716")
}

// What runs in the foreground is upgraded, by a signal and by the command. To who started
// it nothing has changed: its end is that of the last one.
func TestCaseB9ForegroundIsUpgraded(t *testing.T) {
	h := &home{t: t, dir: t.TempDir(), exe: filepath.Join(binDir, "budgie")}
	h.begin("upgraded-4717", 29478)
	first := h.start("run", filepath.Join(h.dir, "web.bun"))
	awaitServed(t, "http://127.0.0.1:29478")
	asked, stop := askAgain(t, "http://127.0.0.1:29478/")
	defer stop()
	first.awaitOutput(t, "is ready on runtime")
	until(t, asked, 100)
	if err := first.Process.Signal(syscall.SIGUSR2); err != nil {
		t.Fatal(err)
	}
	first.awaitOutput(t, "has taken over")
	until(t, asked, 100)
	first.awaitOutput(t, budgie.ErrReplaced.Error())
	for range 2 {
		h.run("upgrade")
		until(t, asked, 100)
	}
	stop()
	t.Logf("%d requests", asked.Load())
	if err := first.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	first.await(t)
	if _, err := fetch("http://127.0.0.1:29478"); err == nil {
		t.Error("it serves after its end")
	}
	if !strings.Contains(first.out.String(), "goodbye") {
		t.Errorf("the last one's log is not the first one's:\n%s", first.out)
	}
}

// Under systemd the successor is the service's main process, of which that is told.
func TestCaseB9ServiceManagerIsTold(t *testing.T) {
	h := newHome(t, "upgraded-4718", 29479)
	addr := &net.UnixAddr{Name: filepath.Join(h.dir, "notify"), Net: "unixgram"}
	manager, err := net.ListenUnixgram("unixgram", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	h.env = append(h.env, "NOTIFY_SOCKET="+addr.Name)
	first := h.start("supervise", "-stay", "-take-over")
	first.awaitSupervising(t, h)
	h.run("upgrade", "-pid", fmt.Sprint(first.Process.Pid))
	first.await(t)
	buf := make([]byte, 100)
	manager.SetReadDeadline(time.Now().Add(10 * time.Second))
	n, err := manager.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := supervisorPID(filepath.Join(h.dir, "data"))
	if err != nil || string(buf[:n]) != fmt.Sprintf("MAINPID=%d", pid) {
		t.Errorf("it was told %s; process %d supervises, %v", buf[:n], pid, err)
	}
	h.run("rm", "-f", "upgraded-4718")
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		t.Error(err)
	}
}

// awaitServed waits until an address serves.
func awaitServed(t *testing.T, url string) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	var err error
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); <-tick.C {
		if _, err = fetch(url); err == nil {
			return
		}
	}
	t.Fatal(err)
}
