package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	goruntime "runtime"

	"github.com/budgiehq/budgie"
)

func superviseCommand() *command {
	c := &command{
		name:    "supervise",
		args:    "[-stay]",
		summary: "Look after the detached containers of the data directory until the last one ends.\nWhere another supervisor does so already, say so and end with status 0.",
		example: "budgie supervise    # \"run -d\" starts it when it is needed",
	}
	c.run = func(ctx context.Context, a *app, args []string) error {
		fs := c.flags()
		stay := fs.Bool("stay", false, "stay when there is nothing to look after, and wait for another supervisor's end, as under a service manager")
		rest, err := c.parse(a, fs, args)
		if err != nil {
			return err
		}
		var opts []budgie.SuperviseOption
		if *stay {
			opts = append(opts, budgie.Resident())
		}
		if len(rest) > 0 {
			return c.usagef("takes no arguments, but there is %q", rest[0])
		}
		return a.withClient(slog.LevelInfo, func(client *budgie.Client) error {
			err := client.Supervise(ctx, opts...)
			if errors.Is(err, budgie.ErrSupervised) {
				// Somebody else does the work: what was asked for is so.
				fmt.Fprintln(a.stderr, "budgie:", err)
				return nil
			}
			if ctx.Err() != nil {
				return nil // a signal: the containers run on for the next supervisor
			}
			return err
		})
	}
	return c
}

func versionCommand() *command {
	c := &command{
		name:    "version",
		args:    "",
		summary: "Print the version.",
		example: "budgie version",
	}
	c.run = func(_ context.Context, a *app, args []string) error {
		if _, err := c.parse(a, c.flags(), args); err != nil {
			return err
		}
		fmt.Fprintf(a.stdout, "budgie %s %s %s/%s\n", budgie.Version, goruntime.Version(), goruntime.GOOS, goruntime.GOARCH)
		return nil
	}
	return c
}
