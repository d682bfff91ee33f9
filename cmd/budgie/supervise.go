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
		args:    "[-stay] [-take-over] [-sync-rate 10MiB] [-host [-allow-process] [-patience 12s]]",
		summary: "Look after the detached containers of the data directory until the last one ends.\nWhere another supervisor does so already, say so and end with status 0.\nWith -host also run replicas of services of the flock that have fewer than their\nreplicas.min, and end them again when there are enough.",
		example: "budgie supervise         # \"run -d\" starts it when it is needed\nbudgie supervise -host   # stays, and restores replicas that others lost",
	}
	c.run = func(ctx context.Context, a *app, args []string) error {
		fs := c.flags()
		stay := fs.Bool("stay", false, "stay when there is nothing to look after, and wait for another supervisor's end, as under a service manager")
		host := fs.Bool("host", false, "run replicas of images where they are missing; implies -stay")
		allowProcess := fs.Bool("allow-process", false, "with -host: run commands of this machine, too, as this user, that others in the flock name")
		patience := secondsFlag(fs, "patience", "with -host: how long a replica may be gone, or its node not answer, before it is replaced (a `time`; default 12s)")
		takeOver := fs.Bool("take-over", false, "take the place of the supervisor that there is, if one is, without a connection refused (Linux)")
		rate := rateFlag(fs, "sync-rate", "how many bytes of volumes may be sent, and may come, per second (a `size` such as 10MiB; default BUDGIE_SYNC_RATE, else no limit)")
		rest, err := c.parse(a, fs, args)
		if err != nil {
			return err
		}
		var opts []budgie.SuperviseOption
		if *stay {
			opts = append(opts, budgie.Resident())
		}
		if *takeOver {
			opts = append(opts, budgie.TakingOver())
		}
		if len(rest) > 0 {
			return c.usagef("takes no arguments, but there is %q", rest[0])
		}
		if name := firstSet(fs, "allow-process", "patience"); name != "" && !*host {
			return c.usagef("-%s goes with -host", name)
		}
		if patience.set && patience.value <= 0 {
			return c.usagef("-patience is a time above 0s, not %s", patience)
		}
		if *host {
			opts = append(opts, budgie.Hosting(budgie.HostPolicy{AllowProcess: *allowProcess, Patience: patience.or(0)}))
		}
		upgrader := a.newUpgrader(c.name, false)
		return a.withClient(slog.LevelInfo, func(client *budgie.Client) error {
			defer upgrader.serve(ctx, client)()
			err := client.Supervise(ctx, opts...)
			if errors.Is(err, budgie.ErrReplaced) {
				fmt.Fprintln(a.stderr, "budgie:", err)
				return nil
			}
			if errors.Is(err, budgie.ErrSupervised) && !*takeOver {
				// Somebody else does the work: what was asked for is so.
				fmt.Fprintln(a.stderr, "budgie:", err)
				return nil
			}
			if ctx.Err() != nil {
				return nil // a signal: the containers run on for the next supervisor
			}
			return err
		}, append(rate.options(), upgrader.option())...)
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
