package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"slices"

	"github.com/budgiehq/budgie"
)

// promote makes a replica of this machine the owner of its volumes.
func (c *command) promote(ctx context.Context, a *app, fs *flag.FlagSet, force bool, args []string) error {
	if len(args) != 1 || args[0] == "" {
		return c.usagef("-promote takes the ID or NAME of one container of this machine")
	}
	others := slices.Concat(joinFlagNames, balanceFlagNames, []string{"balance", "timeout", "format", "peer"})
	if name := firstSet(fs, others...); name != "" {
		return c.usagef("-%s does not go with -promote", name)
	}
	var opts []budgie.StopOption
	if force {
		opts = append(opts, budgie.Force())
	}
	return a.withClient(slog.LevelWarn, func(client *budgie.Client) error {
		rec, err := client.Promote(ctx, args[0], opts...)
		if err == nil {
			a.note("%s owns the volumes of its service now: the other replicas follow what is written here", rec.Name)
			fmt.Fprintln(a.stdout, rec.ID)
		}
		return err
	})
}
