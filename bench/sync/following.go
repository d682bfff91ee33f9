//go:build linux

package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/budgiehq/budgie/internal/lan"
)

// following is a copy that follows its source.
type following struct {
	w            *world
	src, dst     string
	addr         string
	server, copy *lan.Cmd
	// read is how much of what the follower printed was read.
	read int
}

// follow begins to follow, and waits until the copy is what the source is.
func (w *world) follow(src, dst string) (*following, error) {
	f := &following{w: w, src: src, dst: dst, addr: w.freshAddr(w.a)}
	f.server = w.a.Role("serve", w.token, f.addr, src)
	if err := f.server.Start(); err != nil {
		return nil, err
	}
	if err := w.await(f.addr); err != nil {
		return nil, err
	}
	f.copy = w.b.Role("follow", w.token, f.addr, dst)
	if err := f.copy.Start(); err != nil {
		return nil, err
	}
	f.until(func() bool { return true })
	return f, nil
}

// until waits until the copy is said to be what its source is, and something is so.
func (f *following) until(so func() bool) {
	_, f.read = f.copy.AwaitLine("that the copy is what its source is", f.read, func(line string) bool {
		return strings.HasPrefix(line, synced) && so()
	})
}

func (f *following) end() {
	for _, c := range []*lan.Cmd{f.copy, f.server} {
		_ = c.Process.Kill()
		_ = c.Wait() // it was killed
	}
}

// marker is a file that is written after a change: what is seen with it in a copy
// includes the change.
const marker = "marker"

// measure does something to the source, and waits until the copy has it. The time
// is that from the end of the change.
func (f *following) measure(do func() error) (cost, error) {
	unix.Sync() // what was written before is not to be waited for now
	before, err := f.cpu()
	if err != nil {
		return cost{}, err
	}
	in, out, err := f.w.traffic()
	if err != nil {
		return cost{}, err
	}
	memory := watchMemory(f.server.Process.Pid, f.copy.Process.Pid)
	text := fmt.Append(nil, time.Now())
	err = do()
	began := time.Now()
	if err == nil {
		err = os.WriteFile(filepath.Join(f.src, marker), text, 0o644)
	}
	if err == nil {
		f.until(func() bool {
			got, err := os.ReadFile(filepath.Join(f.dst, marker))
			return err == nil && bytes.Equal(got, text)
		})
	}
	c := cost{wall: time.Since(began), memory: [2]int64(memory.end())}
	if err != nil {
		return cost{}, err
	}
	after, err := f.cpu()
	if err != nil {
		return cost{}, err
	}
	for i := range after {
		c.cpu[i] = after[i] - before[i]
	}
	nowIn, nowOut, err := f.w.traffic()
	c.wire = [2]int64{nowIn - in, nowOut - out}
	return c, err
}

func (f *following) cpu() (both [2]time.Duration, err error) {
	for i, c := range []*lan.Cmd{f.server, f.copy} {
		if both[i], err = cpu(c.Process.Pid); err != nil {
			return both, err
		}
	}
	return both, nil
}

// measureFollowing measures what each change costs a copy that follows.
func (w *world) measureFollowing(r *result, t *tree, dst string) error {
	f, err := w.follow(t.dir, dst)
	if err != nil {
		return err
	}
	defer f.end()
	for round := range w.settings.rounds {
		for _, s := range steps[1:] {
			say("following, round %d of %d: %s", round+1, w.settings.rounds, s.name)
			c, err := f.measure(func() error { return s.do(t) })
			if err == nil {
				err = w.equal(t.dir, dst)
			}
			if err != nil {
				return fmt.Errorf("following: %s: %w", s.name, err)
			}
			r.add(s.name).note(nameFollow, c)
		}
	}
	return nil
}

// measureKnown measures another copy from a node whose volume is followed already,
// of which nothing changed.
func (w *world) measureKnown(c *comparison, t *tree, dst string) error {
	other := dst + "-follows"
	if _, err := w.once(budgieWay, t.dir, other); err != nil { // whatever time that takes
		return err
	}
	f, err := w.follow(t.dir, other)
	if err != nil {
		return err
	}
	defer func() { _ = forget(other) }() // with the rest at the latest
	defer f.end()
	for range w.settings.rounds {
		before, err := cpu(f.server.Process.Pid)
		if err != nil {
			return err
		}
		client := budgieWay.copy(w, f.addr, dst)
		got, err := w.meter(client, f.server.Process.Pid, client.Start, client.Wait)
		if err != nil {
			return fmt.Errorf("%w: %s", err, client.Printed())
		}
		after, err := cpu(f.server.Process.Pid)
		if err != nil {
			return err
		}
		got.cpu = [2]time.Duration{after - before, total(client)}
		c.note(nameKnown, got)
	}
	return nil
}
