package main

import (
	"context"
	"errors"
	"log/slog"

	"github.com/budgiehq/budgie"
)

func inspectCommand() *command {
	c := &command{
		name: "inspect",
		args: "ID|NAME…",
		summary: "Print all that is known of containers, as JSON.\n" +
			"What \"detail\" holds depends on the runtime. The environment is shown with all its secrets.",
		example: "budgie inspect web\nbudgie inspect web | jq -r '.[0].detail.image.digest'",
	}
	c.run = func(ctx context.Context, a *app, args []string) error {
		refs, err := c.parse(a, c.flags(), args)
		if err != nil {
			return err
		}
		if len(refs) == 0 {
			return c.usagef("which container?")
		}
		return a.withClient(slog.LevelWarn, func(client *budgie.Client) error {
			var found []budgie.Inspection
			var errs []error
			for _, ref := range refs {
				in, err := client.Inspect(ctx, ref)
				errs = append(errs, err)
				if in.ID != "" {
					found = append(found, in)
				}
			}
			err := printJSON(a.stdout, found, func(in budgie.Inspection) budgie.Inspection { return in })
			return errors.Join(append(errs, err)...)
		})
	}
	return c
}
