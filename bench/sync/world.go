//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/budgiehq/budgie"
	"github.com/budgiehq/budgie/internal/benchreport"
	"github.com/budgiehq/budgie/internal/lan"
	"github.com/budgiehq/budgie/trust"
)

// world is two hosts, of which one has the source, the other the copies.
type world struct {
	ctx      context.Context
	settings settings
	a, b     *lan.Host
	token    string
	base     string
	// ram is a directory in memory.
	ram string
	// ports counts the ports that were used: none is used twice.
	ports int
}

func newWorld(ctx context.Context, t lan.TB, s settings) (*world, error) {
	w := &world{ctx: ctx, settings: s, token: trust.NewToken().Reveal(), base: t.TempDir()}
	// Hosts see what is mounted before they are there.
	w.ram = filepath.Join(w.base, "ram")
	if err := errors.Join(os.Mkdir(w.ram, 0o755), unix.Mount("tmpfs", w.ram, "tmpfs", 0, "")); err != nil {
		return nil, err
	}
	lab := lan.New(t)
	t.Cleanup(func() { _ = unix.Unmount(w.ram, unix.MNT_DETACH) }) // it goes with the process at the latest
	sw := lab.Switch()
	w.a, w.b = lab.Host("a", sw), lab.Host("b", sw)
	return w, nil
}

// machine says what was measured, on what, and when.
func (w *world) machine() []string {
	first := func(name string, args ...string) string { return benchreport.FirstLine(w.ctx, name, args...) }
	return []string{
		benchreport.Machine(),
		"Budgie " + budgie.Version + " built with " + runtime.Version(),
		strings.Join(strings.Fields(first("rsync", "--version")), " "),
		"lsyncd " + strings.TrimPrefix(first("lsyncd", "--version"), "Version: "),
		first("syncthing", "--version"),
	}
}

// freshAddr is an address of a host that nobody listened at.
func (w *world) freshAddr(h *lan.Host) string {
	w.ports++
	return net.JoinHostPort(h.NIC(0).Addr().String(), fmt.Sprint(20000+w.ports))
}

// await waits until somebody listens.
func (w *world) await(addr string) error {
	var err error
	for range 500 {
		err = w.b.Do(func() error {
			conn, err := net.Dial("tcp", addr)
			if err == nil {
				_ = conn.Close()
			}
			return err
		})
		if err == nil || w.ctx.Err() != nil {
			return errors.Join(err, w.ctx.Err())
		}
		time.Sleep(10 * time.Millisecond)
	}
	return err
}

// way is how a copy is made: a command that serves the source, which a host has,
// and one that makes the copy, which the other has.
type way struct {
	name   string
	source func(w *world, addr, dir string) (*lan.Cmd, error)
	copy   func(w *world, addr, dir string) *lan.Cmd
}

// budgieWay is a node that asks another.
var budgieWay = way{
	"Budgie",
	func(w *world, addr, dir string) (*lan.Cmd, error) { return w.a.Role("serve", w.token, addr, dir), nil },
	func(w *world, addr, dir string) *lan.Cmd { return w.b.Role("receive", w.token, addr, dir) },
}

// rsyncWay is rsync with all that Budgie carries, and a daemon.
func rsyncWay(name string, more ...string) way {
	return way{
		name,
		func(w *world, addr, dir string) (*lan.Cmd, error) { return w.daemon(w.a, addr, dir, true) },
		func(w *world, addr, dir string) *lan.Cmd {
			args := append([]string{"-aHAX", "--numeric-ids", "--delete"}, more...)
			return w.b.Command("rsync", append(args, "rsync://"+addr+"/volume/", dir+"/")...)
		},
	}
}

// daemon is rsync's, for one directory.
func (w *world) daemon(h *lan.Host, addr, dir string, readOnly bool) (*lan.Cmd, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(w.base, "rsyncd-"+port+".conf")
	text := fmt.Sprintf("use chroot = no\nreverse lookup = no\n[volume]\npath = %s\nuid = 0\ngid = 0\nread only = %t\n", dir, readOnly)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, err
	}
	return h.Command("rsync", "--daemon", "--no-detach", "--config="+file, "--address="+host, "--port="+port), nil
}

// once makes, or updates, a copy, each side by a process of its own.
func (w *world) once(by way, src, dst string) (cost, error) {
	addr := w.freshAddr(w.a)
	server, err := by.source(w, addr, src)
	if err == nil {
		err = server.Start()
	}
	if err == nil {
		err = w.await(addr)
	}
	if err != nil {
		return cost{}, fmt.Errorf("%s: %w", by.name, err)
	}
	client := by.copy(w, addr, dst)
	c, err := w.meter(client, server.Process.Pid, client.Start, client.Wait)
	if err != nil {
		return cost{}, fmt.Errorf("%s: %w: %s", by.name, err, client.Printed())
	}
	time.Sleep(100 * time.Millisecond) // what the daemon started has ended, too
	_ = server.Process.Signal(unix.SIGTERM)
	_ = server.Wait() // it is done
	c.cpu = [2]time.Duration{total(server), total(client)}
	return c, w.equal(src, dst)
}

// meter runs something that takes its time, and returns what that costs, but for
// the processor.
func (w *world) meter(client *lan.Cmd, server int, start, wait func() error) (cost, error) {
	unix.Sync() // what was written before is not to be waited for now
	in, out, err := w.traffic()
	if err != nil {
		return cost{}, err
	}
	began := time.Now()
	if err := start(); err != nil {
		return cost{}, err
	}
	memory := watchMemory(server, client.Process.Pid)
	err = wait()
	c := cost{wall: time.Since(began), memory: [2]int64(memory.end())}
	if err != nil {
		return cost{}, err
	}
	nowIn, nowOut, err := w.traffic()
	c.wire = [2]int64{nowIn - in, nowOut - out}
	return c, err
}

// total is the processor time of a command that has ended, and of what it waited
// for.
func total(c *lan.Cmd) time.Duration { return c.ProcessState.UserTime() + c.ProcessState.SystemTime() }

// traffic is what the host with the copies has received and sent so far.
func (w *world) traffic() (in, out int64, err error) {
	return traffic(w.b.Run("cat", "/proc/net/dev"), w.b.NIC(0).Name)
}

// equal returns an error where rsync finds a difference. Its own copies have the
// times of directories to the second alone.
func (w *world) equal(src, dst string) error {
	cmd := exec.CommandContext(w.ctx, "rsync", "-aHAXn", "--delete", "--itemize-changes", src+"/", dst+"/")
	out, err := cmd.CombinedOutput()
	if err == nil && len(out) > 0 {
		err = errors.New("the copy differs from its source")
	}
	if err != nil {
		return fmt.Errorf("%w: %.1000s", err, out)
	}
	return nil
}

// anew removes a way's copy as forget does, and what that way remembers of the source.
func anew(by way, dst, src string) error {
	if by.name != budgieWay.name {
		return forget(dst)
	}
	return errors.Join(forget(dst), os.RemoveAll(src+memorySuffix))
}

// forget removes a copy, and what Budgie keeps beside it.
func forget(dst string) error {
	var errs []error
	for _, suffix := range []string{"", ".index", ".index.new", ".ours", ".kept", ".lock"} {
		errs = append(errs, os.RemoveAll(dst+suffix))
	}
	return errors.Join(errs...)
}
