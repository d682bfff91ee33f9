//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// measureStarts starts one container at a time, in rounds in which each
// contender has its turn, none always the same one.
func (w *world) measureStarts(ctx context.Context, rounds int) ([]starts, error) {
	all := make([]starts, len(w.contenders))
	for i, c := range w.contenders {
		all[i].name = c.name
	}
	// The first start of each is not counted: it makes bridges, caches and chains.
	for round := -1; round < rounds; round++ {
		if err := findSoon(); err != nil {
			return nil, err
		}
		fmt.Fprintf(os.Stderr, "\rround %d of %d ", round+1, rounds)
		for turn := range w.contenders {
			i := (round + 1 + turn) % len(w.contenders)
			answer, done, err := w.startOne(ctx, w.contenders[i], fmt.Sprintf("bench-%d-%d", round+1, i))
			if err != nil {
				return nil, err
			}
			if round >= 0 {
				all[i].answer = append(all[i].answer, answer)
				all[i].done = append(all[i].done, done)
			}
		}
	}
	fmt.Fprintln(os.Stderr)
	return all, nil
}

// findSoon keeps the asking from delaying the answer. Who asks for a container
// that is not on its bridge yet makes the kernel look for its address in vain,
// and look again only after a second.
func findSoon() error {
	settings, err := filepath.Glob("/proc/sys/net/ipv4/neigh/*/retrans_time_ms") // one for each bridge
	for _, file := range settings {
		if err := os.WriteFile(file, []byte("2"), 0); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return err
}

// startOne starts a container and removes it again. It returns how long it took
// to the first answer, and to the end of the command.
func (w *world) startOne(ctx context.Context, c *contender, name string) (answer, done time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	port := w.port()
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	if c.addr != nil {
		addr = c.addr()
	}
	var answerErr error
	var wg sync.WaitGroup
	began := time.Now()
	wg.Go(func() {
		answerErr = answered(ctx, addr, one)
		answer = time.Since(began)
	})
	if err = c.start(ctx, name, port); err != nil {
		cancel()
	}
	done = time.Since(began)
	wg.Wait()
	if err := errors.Join(err, answerErr); err != nil {
		return 0, 0, fmt.Errorf("%s: %w", c.name, err)
	}
	if err := c.remove(ctx, name); err != nil {
		return 0, 0, fmt.Errorf("%s: remove: %w", c.name, err)
	}
	return answer, done, nil
}

// settling is how long programs get to give back what they needed to start a
// container.
const settling = 3 * time.Second

// measureMemory looks at the processes behind one running container.
func (w *world) measureMemory(ctx context.Context) ([]footprint, error) {
	if err := w.endHolder(ctx); err != nil {
		return nil, err
	}
	var all []footprint
	for i, c := range w.contenders {
		if c.supervisors == nil {
			continue
		}
		name, port := fmt.Sprintf("memory-%d", i), w.port()
		if err := c.start(ctx, name, port); err != nil {
			return nil, err
		}
		if err := answered(ctx, fmt.Sprintf("127.0.0.1:%d", port), one); err != nil {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(settling):
		}
		m, err := c.supervisors()
		if err != nil {
			return nil, err
		}
		all = append(all, footprint{c.name, m})
		if err := c.remove(ctx, name); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// measureMany starts many containers at once, and waits until all answer.
func (w *world) measureMany(ctx context.Context, many int) ([]crowd, error) {
	var all []crowd
	for _, c := range w.contenders {
		if !c.inMany {
			continue
		}
		if c.startAll != nil {
			r, err := w.startMany(ctx, c, many, c.startAll)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", c.name, err)
			}
			all = append(all, crowd{c.name + ", one command", r})
		}
		r, err := w.startMany(ctx, c, many, c.sideBySide)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.name, err)
		}
		all = append(all, crowd{fmt.Sprintf("%s, %d commands", c.name, many), r})
	}
	return all, nil
}

// sideBySide starts each container with a command of its own.
func (c *contender) sideBySide(ctx context.Context, names []string, ports []int) error {
	return each(len(names), func(i int) error { return c.start(ctx, names[i], ports[i]) })
}

// each calls a function for all indexes below n at the same time.
func each(n int, f func(i int) error) error {
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { errs[i] = f(i) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (w *world) startMany(ctx context.Context, c *contender, many int, start func(context.Context, []string, []int) error) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*patience)
	defer cancel()
	fmt.Fprintf(os.Stderr, "%d at once: %s\n", many, c.name)
	names, ports := make([]string, many), make([]int, many)
	for i := range many {
		ports[i] = w.port()
		names[i] = fmt.Sprintf("many-%d", ports[i])
	}
	began := time.Now()
	err := start(ctx, names, ports)
	if err == nil {
		err = each(many, func(i int) error { return answered(ctx, fmt.Sprintf("127.0.0.1:%d", ports[i]), crowded) })
	}
	took := time.Since(began)
	if err != nil {
		return 0, err
	}
	return took, each(many, func(i int) error { return c.remove(ctx, names[i]) })
}
