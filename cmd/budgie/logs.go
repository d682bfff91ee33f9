package main

import (
	"context"
	"errors"
	"log/slog"
	"strconv"

	"github.com/budgiehq/budgie"
	"github.com/budgiehq/budgie/runtime"
)

func logsCommand() *command {
	c := &command{
		name:    "logs",
		args:    "[-f] [-tail N] [-t] ID|NAME",
		summary: "Show the log of a container.",
		example: "budgie logs -f -tail 20 web",
	}
	c.run = func(ctx context.Context, a *app, args []string) error {
		fs := c.flags()
		follow := fs.Bool("f", false, "follow: go on until the container has ended for good, also over restarts")
		tail := -1
		fs.Func("tail", "begin with the last `N` lines (default all)", func(text string) (err error) {
			if tail, err = strconv.Atoi(text); err != nil || tail < 0 {
				return errors.New("want a number of lines")
			}
			return nil
		})
		stamps := fs.Bool("t", false, "show the time of each line")
		refs, err := c.parse(a, fs, args)
		if err != nil {
			return err
		}
		if len(refs) != 1 {
			return c.usagef("which container? It takes exactly one, and there are %d", len(refs))
		}
		opts := runtime.LogOptions{Follow: *follow}
		switch {
		case tail == 0:
			opts.Tail = -1
		case tail > 0:
			opts.Tail = tail
		}
		return a.withClient(slog.LevelWarn, func(client *budgie.Client) error {
			rec, err := client.Get(ctx, refs[0])
			if err != nil {
				return err
			}
			show := a.logPrinter(false, *stamps)
			for entry, err := range client.Logs(ctx, rec.ID, opts) {
				if errors.Is(err, budgie.ErrNotFound) {
					return nil // removed while it was followed
				}
				if err != nil {
					return err
				}
				show(rec, entry)
			}
			return nil
		})
	}
	return c
}
