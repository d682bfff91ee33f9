//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// measureWhole measures the image, and its other version after that, in rounds
// in which both ways have their turn, neither always as the first.
func (w *world) measureWhole(ctx context.Context) (whole, changed pair, err error) {
	// The first round is not counted: it fills caches.
	for round := -1; round < w.settings.rounds; round++ {
		fmt.Fprintf(os.Stderr, "\rround %d of %d ", round+1, w.settings.rounds)
		ways := []way{{"ctr", w.pull}, {"budgie", w.join}}
		if round%2 == 0 {
			ways[0], ways[1] = ways[1], ways[0]
		}
		for _, way := range ways {
			got, err := w.round(ctx, way.get, first, second)
			if err != nil {
				return pair{}, pair{}, fmt.Errorf("%s: %w", way.name, err)
			}
			if round < 0 {
				continue
			}
			for i, p := range []*pair{&whole, &changed} {
				if way.name == "ctr" {
					p.registry = append(p.registry, got[i])
				} else {
					p.peer = append(p.peer, got[i])
				}
			}
		}
	}
	fmt.Fprintln(os.Stderr)
	return whole, changed, nil
}

// way is how to get an image.
type way struct {
	name string
	get  func(ctx context.Context, image string) (fetch, error)
}

// measureSlow measures images over links that limit the hosts which serve.
func (w *world) measureSlow(ctx context.Context) (slow, error) {
	for _, m := range []*machine{w.a, w.c} {
		m.NIC(0).Limit(w.settings.rate * mega)
	}
	var s slow
	for round := range w.settings.limited {
		fmt.Fprintf(os.Stderr, "\rround %d of %d over limited links ", round+1, w.settings.limited)
		for turn := range 3 {
			var into *fetches
			var got []fetch
			var err error
			switch (round + turn) % 3 {
			case 0:
				into = &s.registry
				got, err = w.round(ctx, w.pull, first)
			case 1:
				into = &s.one
				got, err = w.round(ctx, w.join, first)
			case 2:
				into = &s.two
				got, err = w.round(ctx, w.join, apart)
			}
			if err != nil {
				return slow{}, err
			}
			*into = append(*into, got...)
		}
	}
	fmt.Fprintln(os.Stderr)
	return s, nil
}

// round gets images one after the other, and removes them again.
func (w *world) round(ctx context.Context, get func(context.Context, string) (fetch, error), names ...string) ([]fetch, error) {
	var all []fetch
	for _, name := range names {
		unix.Sync() // what was written before is not to be waited for now
		before, err := w.received()
		if err != nil {
			return nil, err
		}
		f, err := get(ctx, name)
		if err != nil {
			return nil, err
		}
		after, err := w.received()
		if err != nil {
			return nil, err
		}
		f.bytes = after - before
		if err := w.b.ready(ctx, name); err != nil {
			return nil, err
		}
		all = append(all, f)
	}
	for i, name := range names {
		if all[i].whole == 0 {
			continue // it is not run
		}
		if err := w.b.command("rm", "-f", name).Run(); err != nil {
			return nil, err
		}
	}
	return all, w.b.forget(ctx)
}

// received is how many bytes the host that fetches has got so far.
func (w *world) received() (int64, error) {
	return received(w.b.Run("cat", "/proc/net/dev"), w.b.NIC(0).Name)
}

// pull has ctr get an image from the registry.
func (w *world) pull(_ context.Context, name string) (fetch, error) {
	cmd := w.b.Command(w.ctr, "--address", w.b.daemon.Address, "--namespace", w.b.daemon.Namespace,
		"images", "pull", "--plain-http", w.registry.Host+"/"+repository+":"+name)
	began := time.Now()
	err := cmd.Run()
	return fetch{took: time.Since(began)}, err
}

// join has Budgie get an image from those who run it, and run it.
func (w *world) join(_ context.Context, name string) (fetch, error) {
	cmd := w.b.command("chirp", "-d", name)
	var out steps
	cmd.Stdout, cmd.Stderr = &out, &out
	began := time.Now()
	if err := cmd.Run(); err != nil {
		return fetch{}, fmt.Errorf("%w: %s", err, &out)
	}
	whole := time.Since(began)
	took, ok := out.fetch()
	if !ok {
		return fetch{}, errors.New("it does not say when the image was there: " + out.String())
	}
	return fetch{took: took, whole: whole}, nil
}
