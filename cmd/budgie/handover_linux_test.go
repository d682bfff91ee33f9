package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
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
)

// home is a data directory with a container that serves.
type home struct {
	t   *testing.T
	dir string
	env []string
}

func newHome(t *testing.T, name string, port int) *home {
	t.Helper()
	h := &home{t: t, dir: t.TempDir()}
	data := filepath.Join(h.dir, "data")
	h.env = append(os.Environ(), "PATH="+binDir+":"+os.Getenv("PATH"), "BUDGIE_DATA_DIR="+data, "BUDGIE_BIND=127.0.0.1",
		"BUDGIE_INTERFACES="+loopback(), "CONTAINERD_ADDRESS="+filepath.Join(h.dir, "none"))
	t.Cleanup(func() { endAll(data) })
	file := filepath.Join(h.dir, "web.bun")
	text := fmt.Sprintf("version: \"1.0\"\nname: %s\nimage: {command: [testserver]}\nenvironment: [GREETING=hello]\nports: [{container_port: 80, host_port: %d}]\nhealthcheck: {path: /}\n", name, port)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	h.run("run", "-d", file)
	return h
}

// run runs a command to its end.
func (h *home) run(args ...string) {
	h.t.Helper()
	cmd := exec.Command(filepath.Join(binDir, "budgie"), args...)
	cmd.Env = h.env
	if out, err := cmd.CombinedOutput(); err != nil {
		h.t.Fatalf("budgie %v: %v\n%s", args, err, out)
	}
}

// replaceable is a command that was started.
type replaceable struct {
	*exec.Cmd
	out   *bytes.Buffer
	ended chan error
}

func (h *home) start(args ...string) *replaceable {
	h.t.Helper()
	r := &replaceable{exec.Command(filepath.Join(binDir, "budgie"), args...), new(bytes.Buffer), make(chan error, 1)}
	r.Env, r.Stdout, r.Stderr = h.env, r.out, r.out
	if err := r.Start(); err != nil {
		h.t.Fatal(err)
	}
	go func() { r.ended <- r.Wait() }()
	h.t.Cleanup(func() { _ = r.Process.Kill() }) // it has ended, most likely
	return r
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

// Of two who want to take over at the same time both do, one after the other.
func TestCaseB9SupervisorsInARow(t *testing.T) {
	h := newHome(t, "replaced-4715", 29476)
	awaitServed(t, "http://127.0.0.1:29476")
	asked, stop := askAgain(t, "http://127.0.0.1:29476/")
	until(t, asked, 100)
	one, two := h.start("supervise", "-take-over"), h.start("supervise", "-take-over")
	select {
	case err := <-one.ended:
		one.ended <- err
		one, two = two, one
	case err := <-two.ended:
		two.ended <- err
	case <-time.After(30 * time.Second):
		t.Fatal("both supervise")
	}
	two.await(t)
	one.awaitSupervising(t, h)
	until(t, asked, 100)
	stop()
	h.run("rm", "-f", "replaced-4715")
	one.await(t)
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
