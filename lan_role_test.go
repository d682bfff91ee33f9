package budgie_test

import (
	"context"
	"fmt"
	"net/http"
	"os"

	"github.com/budgiehq/budgie"
	"github.com/budgiehq/budgie/internal/lan"
	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/runtime/runtimetest"
)

// lanRoles is what this test binary does in hosts of a laboratory.
var lanRoles = lan.Roles{"node": nodeRole, "join": joinRole, "watch": watchRole}

// nodeRole runs a container "web", which answers with the host's name, until ctx
// ends.
func nodeRole(ctx context.Context, _ []string) error {
	return withNode(ctx, func(c *budgie.Client) (lifecycle.Container, error) { return c.Run(ctx, web("web")) })
}

// joinRole joins it.
func joinRole(ctx context.Context, _ []string) error {
	return withNode(ctx, func(c *budgie.Client) (lifecycle.Container, error) { return c.Join(ctx, "web") })
}

func withNode(ctx context.Context, start func(*budgie.Client) (lifecycle.Container, error)) error {
	name, err := os.Hostname()
	if err != nil {
		return err
	}
	fake := runtimetest.NewFake(runtimetest.WithHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, name)
	})))
	defer fake.Shutdown()
	c, err := budgie.New(budgie.WithRuntime(fake))
	if err != nil {
		return err
	}
	defer c.Close()
	rec, err := start(c)
	if err != nil {
		return err
	}
	fmt.Println("running", rec.ID)
	<-ctx.Done()
	return nil
}

// watchRole prints what comes and goes, and balances over "web" on port 80.
func watchRole(ctx context.Context, _ []string) error {
	c, err := budgie.New()
	if err != nil {
		return err
	}
	defer c.Close()
	events, err := c.Discover(ctx)
	if err != nil {
		return err
	}
	f, err := c.Balance(ctx, "web", ":80")
	if err != nil {
		return err
	}
	defer f.Shutdown(context.Background())
	fmt.Println("watching")
	for e := range events {
		fmt.Println(e.Type, e.Service.ID, e.Service.Addrs)
	}
	return nil
}
