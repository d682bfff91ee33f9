//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// budgieCommand is the command with a data directory of its own.
type budgieCommand struct {
	w       *world
	program string
	dir     string
	network string
	// level is that of the supervisor's log; empty for the usual one.
	level string
}

// spec is a container as people write one down.
const spec = `version: "1.0"
name: %s
image:
  docker_image: ` + image + `
  pull: never
network: %s
ports:
  - container_port: %d
    host_port: %d
`

// budgies returns Budgie without a supervisor, with one, and with one in the
// host's network.
func (w *world) budgies(ctx context.Context) ([]*contender, error) {
	program := w.budgie()
	if err := command(ctx, nil, "go", "build", "-o", program, "github.com/budgiehq/budgie/cmd/budgie"); err != nil {
		return nil, err
	}
	cold := &budgieCommand{w: w, program: program, dir: w.path("cold"), network: "bridge"}
	warm := &budgieCommand{w: w, program: program, dir: w.path("warm"), network: "bridge"}
	host := &budgieCommand{w: w, program: program, dir: w.path("warm"), network: "host"}
	for _, b := range []*budgieCommand{cold, warm} {
		if err := os.Mkdir(b.dir, 0o700); err != nil {
			return nil, err
		}
	}
	// A supervisor lives as long as it has something to look after.
	if err := warm.start(ctx, "holder", w.port()); err != nil {
		return nil, err
	}
	w.endHolder = func(ctx context.Context) error { return warm.removeLast(ctx, "holder") }
	c := cold.contender(nameCold)
	c.remove = cold.removeLast
	c.inMany = true
	c.supervisors = cold.supervisors
	return []*contender{c, warm.contender(nameWarm), host.contender(nameHost)}, nil
}

func (b *budgieCommand) contender(name string) *contender {
	return &contender{
		name: name, start: b.start, startAll: b.startAll,
		remove: func(ctx context.Context, name string) error { return b.run(ctx, "rm", "-f", name) },
	}
}

// removeLast removes a container and waits for the end of the supervisor, which
// has nothing left to look after, or others.
func (b *budgieCommand) removeLast(ctx context.Context, name string) error {
	if err := b.run(ctx, "rm", "-f", name); err != nil {
		return err
	}
	return until(ctx, "the supervisor does not end", func() (bool, error) {
		alive, err := b.supervisor()
		return len(alive) == 0, err
	})
}

func (b *budgieCommand) run(ctx context.Context, args ...string) error {
	return command(ctx, []string{
		"BUDGIE_DATA_DIR=" + b.dir, "BUDGIE_LOG=" + b.level, "BUDGIE_BIND=127.0.0.1", "BUDGIE_INTERFACES=lo",
		"CONTAINERD_ADDRESS=" + b.w.containerd.Address, "CONTAINERD_NAMESPACE=" + b.w.containerd.Namespace,
	}, b.program, args...)
}

func (b *budgieCommand) start(ctx context.Context, name string, port int) error {
	return b.startAll(ctx, []string{name}, []int{port})
}

// startAll starts containers with one command.
func (b *budgieCommand) startAll(ctx context.Context, names []string, ports []int) error {
	var docs []string
	for i, name := range names {
		docs = append(docs, fmt.Sprintf(spec, name, b.network, serverPort, ports[i]))
	}
	file := filepath.Join(b.dir, names[0]+".bun")
	if err := os.WriteFile(file, []byte(strings.Join(docs, "---\n")), 0o600); err != nil {
		return err
	}
	return b.run(ctx, "run", "-d", file)
}

// supervisor returns the supervisor of the data directory, where one is alive.
func (b *budgieCommand) supervisor() (memory, error) {
	return processes(func(p process) bool {
		if p.args[0] != b.program || !slices.Contains(p.args, "supervise") {
			return false
		}
		env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", p.pid))
		return err == nil && slices.Contains(strings.Split(string(env), "\x00"), "BUDGIE_DATA_DIR="+b.dir)
	})
}

// supervisors are the supervisor, and what it shares with other programs.
func (b *budgieCommand) supervisors() (memory, error) {
	own, err := b.supervisor()
	if err != nil {
		return nil, err
	}
	shared, err := b.w.containerdProcesses()
	return append(own, shared...), err
}

// measureSteps finds out where the time goes, for containers on the bridge and in
// the host's network, from the logs of supervisors that begin with them.
func (w *world) measureSteps(ctx context.Context, rounds int) ([]journey, error) {
	var all []journey
	for _, network := range []string{"bridge", "host"} {
		b := &budgieCommand{w: w, program: w.budgie(), dir: w.path("steps-" + network), network: network, level: "debug"}
		if err := os.Mkdir(b.dir, 0o700); err != nil {
			return nil, err
		}
		c := b.contender(nameCold + ", network: " + network)
		c.remove = b.removeLast
		j := journey{name: c.name}
		for round := range rounds {
			began := time.Now()
			answer, _, err := w.startOne(ctx, c, fmt.Sprintf("steps-%d", round))
			if err != nil {
				return nil, err
			}
			marks, err := b.takeSteps()
			if err != nil {
				return nil, err
			}
			j.add(began, marks, began.Add(answer))
		}
		all = append(all, j)
	}
	return all, nil
}

// takeSteps returns what the supervisor's log has, which is empty then.
func (b *budgieCommand) takeSteps() ([]mark, error) {
	name := filepath.Join(b.dir, "supervisor.log")
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	marks, err := readSteps(f)
	if err == nil && len(marks) == 0 {
		err = fmt.Errorf("%s has no steps", name)
	}
	return marks, errors.Join(err, os.Remove(name))
}
