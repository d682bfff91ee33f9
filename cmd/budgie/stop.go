package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"slices"
	"sync"

	"github.com/budgiehq/budgie"
)

func stopCommand() *command {
	c := &command{
		name:    "stop",
		args:    "[-t 10s] ID|NAME…",
		summary: "Stop containers. They stay stopped, whatever their restart policy.",
		example: "budgie stop web\nbudgie stop -t 30s 3f2a api",
	}
	c.run = func(ctx context.Context, a *app, args []string) error {
		fs := c.flags()
		grace := graceFlag(fs)
		refs, opts, err := c.parseStop(a, fs, args, grace)
		if err != nil {
			return err
		}
		return a.forEach(refs, func(client *budgie.Client, ref string) error {
			return client.Stop(ctx, ref, opts...)
		})
	}
	return c
}

func rmCommand() *command {
	c := &command{
		name:    "rm",
		args:    "[-f] [-t 10s] ID|NAME…",
		summary: "Remove stopped containers with their logs. Volumes stay.",
		example: "budgie rm web\nbudgie rm -f $(budgie ps -q)",
	}
	c.run = func(ctx context.Context, a *app, args []string) error {
		fs := c.flags()
		force := fs.Bool("f", false, "stop containers that are not stopped")
		grace := graceFlag(fs)
		refs, opts, err := c.parseStop(a, fs, args, grace)
		if err != nil {
			return err
		}
		if *force {
			opts = append(opts, budgie.Force())
		}
		return a.forEach(refs, func(client *budgie.Client, ref string) error {
			return client.Remove(ctx, ref, opts...)
		})
	}
	return c
}

func graceFlag(fs *flag.FlagSet) *seconds {
	return secondsFlag(fs, "t", "`time` between the stop signal and the kill, 0s kills at once (default the container's stop_timeout, 10s)")
}

// parseStop parses a command line that names containers to stop, with the
// grace that -t gives them.
func (c *command) parseStop(a *app, fs *flag.FlagSet, args []string, grace *seconds) (refs []string, opts []budgie.StopOption, err error) {
	refs, err = c.parse(a, fs, args)
	switch {
	case err != nil:
		return nil, nil, err
	case len(refs) == 0:
		return nil, nil, c.usagef("which container?")
	case grace.value < 0:
		return nil, nil, c.usagef("-t is a time of at least 0s, not %s", grace)
	case grace.set:
		opts = append(opts, budgie.Grace(grace.value))
	}
	return refs, opts, nil
}

// forEach calls f for all containers side by side, once for each that is named
// several times, prints those that went well
// as the user named them, in that order, and returns the errors of the others.
func (a *app) forEach(refs []string, f func(client *budgie.Client, ref string) error) error {
	refs = distinct(refs)
	return a.withClient(slog.LevelWarn, func(client *budgie.Client) error {
		errs := make([]error, len(refs))
		var wg sync.WaitGroup
		for i, ref := range refs {
			wg.Go(func() { errs[i] = f(client, ref) })
		}
		wg.Wait()
		for i, ref := range refs {
			if errs[i] == nil {
				fmt.Fprintln(a.stdout, ref)
			}
		}
		return errors.Join(errs...)
	})
}

// distinct leaves out what was there before.
func distinct(refs []string) []string {
	var kept []string
	for _, ref := range refs {
		if !slices.Contains(kept, ref) {
			kept = append(kept, ref)
		}
	}
	return kept
}
