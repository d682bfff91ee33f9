//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/budgiehq/budgie/internal/benchreport"
)

// Where everything listens, in a namespace that nobody else is in.
const (
	proxyAddr = "127.0.0.1:8000"
	// idleBackends is how many backends the idle proxy has.
	idleBackends = 100
)

var backendAddrs = []string{"127.0.0.1:9001", "127.0.0.1:9002"}

// measure does everything and returns the result as Markdown.
func measure(ctx context.Context, s settings) (text string, err error) {
	dir, err := os.MkdirTemp("/run", "balance-") // in memory
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := os.Chmod(dir, 0o755); err != nil { // nginx's workers are somebody else
		return "", err
	}
	// Many connections of short lives from one address need many ports.
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_local_port_range", []byte("10000 65535"), 0o644); err != nil {
		return "", err
	}
	r := result{settings: s, machine: benchreport.Machine(), versions: versions(ctx)}
	backends, err := start(ctx, dir, "backends", backendAddrs[0], func(dir, _ string) (*exec.Cmd, error) {
		return web(dir, allBackends(), s.loads)
	})
	if err != nil {
		return "", err
	}
	defer backends.end()
	for round := range s.rounds {
		for _, l := range s.loads {
			for _, sub := range turns(round, subjects) {
				if !s.only.MatchString(sub.name) {
					continue
				}
				got, err := once(ctx, dir, sub, l, s.each)
				if err != nil {
					return "", fmt.Errorf("%s, %v: %w", sub.name, l, err)
				}
				say("round %d of %d, %v: %s %.0f/s", round+1, s.rounds, l, sub.name, got.rate)
				r.note(l, sub.name, got)
			}
		}
	}
	if s.only.MatchString(nameBudgie) {
		if r.idleMemory, r.idleCPU, err = idle(ctx, dir, s.idle); err != nil {
			return "", fmt.Errorf("idle: %w", err)
		}
	}
	return r.markdown(), nil
}

// turns returns the proxies, none of them always the first.
func turns(round int, all []subject) []subject {
	round %= len(all)
	return slices.Concat(all[round:], all[:round])
}

// allBackends are addresses of the backends' server, of which the first two are
// used but by the idle proxy.
func allBackends() []string {
	all := slices.Clone(backendAddrs)
	for i := len(all); i < idleBackends; i++ {
		all = append(all, fmt.Sprintf("127.0.0.1:%d", 9001+i))
	}
	return all
}

func versions(ctx context.Context) []string {
	first := func(name string, args ...string) string { return benchreport.FirstLine(ctx, name, args...) }
	nginx, _ := exec.CommandContext(ctx, "nginx", "-v").CombinedOutput()
	wrk, _ := exec.CommandContext(ctx, "wrk", "-v").Output() // which ends in failure all the same
	generator, _, _ := strings.Cut(string(wrk), " Copyright")
	caddy, _, _ := strings.Cut(first(caddyProgram, "version"), " ")
	return []string{
		strings.TrimSpace(strings.Replace(string(nginx), "nginx version: ", "", 1)), first("haproxy", "-v"),
		"Caddy " + caddy, first("go", "version"), "load by " + generator,
	}
}

// server is a process that listens.
type server struct {
	cmd *exec.Cmd
	log *os.File
}

// start starts a server and waits until it answers.
func start(ctx context.Context, dir, name, addr string, command func(dir, addr string) (*exec.Cmd, error)) (*server, error) {
	own, err := os.MkdirTemp(dir, "server-")
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(own, 0o755); err != nil {
		return nil, err
	}
	cmd, err := command(own, addr)
	if err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(own, "log"))
	if err != nil {
		return nil, err
	}
	s := &server{cmd, log}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(err, log.Close())
	}
	for range 500 {
		if err = ask(ctx, addr, loadOf(1<<10, true, 1)); err == nil || ctx.Err() != nil {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if err == nil {
		return s, nil
	}
	s.end()
	said, _ := os.ReadFile(log.Name())
	return nil, fmt.Errorf("%s does not serve: %w\n%s", name, err, said)
}

// end ends the server and waits for that.
func (s *server) end() {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	kill := time.AfterFunc(5*time.Second, func() { _ = s.cmd.Process.Kill() })
	_ = s.cmd.Wait() // it was told to end
	kill.Stop()
	_ = s.log.Close() // it was only written to
}

// ask asks once for what a load is made of, and looks at the answer.
func ask(ctx context.Context, addr string, l load) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+l.path, nil)
	if err != nil {
		return err
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && (resp.StatusCode != http.StatusOK || len(body) != l.size) {
		err = fmt.Errorf("the answer to %s is %s with %d bytes", l.path, resp.Status, len(body))
	}
	return err
}

// once measures a proxy that was just started, after a second of the same load.
func once(ctx context.Context, dir string, sub subject, l load, each time.Duration) (cost, error) {
	addr, pid := backendAddrs[0], 0
	if sub.command != nil {
		addr = proxyAddr
		s, err := start(ctx, dir, sub.name, addr, func(dir, addr string) (*exec.Cmd, error) {
			return sub.command(dir, addr, backendAddrs)
		})
		if err != nil {
			return cost{}, err
		}
		defer s.end()
		pid = s.cmd.Process.Pid
	}
	if err := ask(ctx, addr, l); err != nil {
		return cost{}, err
	}
	if _, err := generate(ctx, addr, l, time.Second); err != nil {
		return cost{}, err
	}
	if pid == 0 {
		a, err := generate(ctx, addr, l, each)
		return cost{answers: a}, err
	}
	before, err := cpu(pid)
	if err != nil {
		return cost{}, err
	}
	watch := watchMemory(pid)
	a, err := generate(ctx, addr, l, each)
	c := cost{answers: a, memory: watch.end()}
	if err != nil {
		return c, err
	}
	after, err := cpu(pid)
	c.cpu = after - before
	return c, err
}

// generate lets wrk ask for a time.
func generate(ctx context.Context, addr string, l load, each time.Duration) (answers, error) {
	args := []string{"-t", "2", "-c", fmt.Sprint(l.connections), "-d", fmt.Sprintf("%ds", int(each.Seconds())), "--timeout", "10s", "--latency"}
	if l.fresh {
		args = append(args, "-H", "Connection: close")
	}
	cmd := exec.CommandContext(ctx, "wrk", append(args, "http://"+addr+l.path)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return answers{}, fmt.Errorf("wrk: %w: %s", err, out)
	}
	return parseWrk(string(out))
}

// idle measures a proxy with many backends, whose health it checks, and no client.
func idle(ctx context.Context, dir string, each time.Duration) (int64, float64, error) {
	s, err := start(ctx, dir, "idle", proxyAddr, func(dir, addr string) (*exec.Cmd, error) {
		return own(roleIdle)(dir, addr, allBackends())
	})
	if err != nil {
		return 0, 0, err
	}
	defer s.end()
	pid := s.cmd.Process.Pid
	before, err := cpu(pid)
	if err != nil {
		return 0, 0, err
	}
	watch := watchMemory(pid)
	select {
	case <-time.After(each):
	case <-ctx.Done():
	}
	most := watch.end()
	after, err := cpu(pid)
	return most, (after - before).Seconds() / each.Seconds(), err
}
