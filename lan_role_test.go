package budgie_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/budgiehq/budgie"
	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/internal/lan"
	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/runtime/runtimetest"
)

// lanRoles is what this test binary does in hosts of a laboratory.
var lanRoles = lan.Roles{"node": nodeRole, "join": joinRole, "watch": watchRole, "host": hostRole}

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

// hostRole supervises, as a host if the first argument says so, with processes as
// containers; it runs "web" of which there should be two, or joins it, where the
// second argument is that. It prints which containers there are whenever that
// changes.
func hostRole(ctx context.Context, args []string) error {
	c, err := budgie.New()
	if err != nil {
		return err
	}
	defer c.Close()
	opts := []budgie.SuperviseOption{budgie.Resident()}
	if args[0] == "host" {
		opts = append(opts, budgie.Hosting(budgie.HostPolicy{AllowProcess: true, Patience: 3 * time.Second}))
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Supervise(ctx, opts...) }()
	begin := func() error { return nil }
	switch args[1] {
	case "run":
		exe, err := os.Executable()
		if err != nil {
			return err
		}
		spec := wanting(2, 2)
		spec.Image = bunfile.Image{Command: []string{exe, programSwitch, "serve"}}
		spec.Healthcheck.Interval = bunfile.Duration(200 * time.Millisecond) // a process takes its time to begin
		begin = func() error { _, err := c.Run(ctx, spec, budgie.Detached()); return err }
	case "join":
		begin = func() error { _, err := c.Join(ctx, "web", budgie.Detached(), budgie.AllowProcess()); return err }
	}
	for err = begin(); err != nil && strings.Contains(err.Error(), budgie.ErrNoSupervisor.Error()); err = begin() {
		<-time.After(10 * time.Millisecond) // the supervision has yet to begin
	}
	for said := ""; err == nil; {
		says := "runs nothing"
		recs, listErr := c.List(ctx)
		for _, rec := range recs {
			says = fmt.Sprintf("runs ready=%t restored=%t", rec.Ready, rec.Restored)
		}
		if says != said && listErr == nil {
			fmt.Println(says)
			said = says
		}
		select {
		case err = <-ended:
		case <-time.After(50 * time.Millisecond):
		}
	}
	if ctx.Err() != nil {
		return nil
	}
	return err
}
