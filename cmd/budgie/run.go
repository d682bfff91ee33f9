package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/budgiehq/budgie"
	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/runtime"
)

func runCommand() *command {
	c := &command{
		name:    "run",
		args:    "[-d | -take-over] [-name N] [-runtime auto|process|containerd] [-rm] [-ready-timeout 1m] FILE.bun…",
		summary: "Run the containers of .bun files.\nIn the foreground the exit status is 1 if a container failed.",
		example: "budgie run web.bun        # shows the log; Ctrl-C stops it, twice kills it\nbudgie run -d web.bun     # returns once it serves, and prints its id",
	}
	c.run = func(ctx context.Context, a *app, args []string) error {
		fs := c.flags()
		detach := fs.Bool("d", false, "detach: return once the containers are ready, and print their ids")
		name := fs.String("name", "", "`name` of the container, instead of the file's (one container only)")
		rt := fs.String("runtime", "auto", "`runtime` to use: auto, process, containerd")
		rm := fs.Bool("rm", false, "remove the container, with its log, when it is done")
		takeOver := fs.Bool("take-over", false, "go on with the containers in place of the \"budgie run\" in the foreground that runs them, if one does, as they are and without a connection refused (Linux)")
		ready := secondsFlag(fs, "ready-timeout", "how long each container may take to become ready (a `time`; default 1m plus its start_period)")
		files, err := c.parse(a, fs, args)
		if err != nil {
			return err
		}
		if len(files) == 0 {
			return c.usagef("which .bun file?")
		}
		if ready.set && ready.value <= 0 {
			return c.usagef("-ready-timeout is a time above 0s, not %s", ready)
		}
		if *takeOver && *detach {
			return c.usagef("-take-over is for the foreground: \"budgie supervise -take-over\" takes what was detached over")
		}
		specs, err := load(files)
		if err != nil {
			return err
		}
		if *name != "" {
			if len(specs) != 1 {
				return c.usagef("-name needs exactly one container, and there are %d", len(specs))
			}
			specs[0].Name = *name
		}
		opts := []budgie.RunOption{budgie.OnRuntime(*rt)}
		if *rm {
			opts = append(opts, budgie.AutoRemove())
		}
		if ready.set {
			opts = append(opts, budgie.ReadyWithin(ready.value))
		}
		pulls := a.newPulls()
		defer pulls.end()
		opts = append(opts, budgie.OnPull(pulls.show))
		start := asSpecified(ctx, specs)
		if *detach {
			return a.withClient(slog.LevelWarn, func(client *budgie.Client) error { return a.detached(client, start, opts) })
		}
		if *takeOver {
			start = takingOver(ctx, specs, start)
		}
		return c.foreground(ctx, a, len(specs) > 1, start, opts)
	}
	return c
}

// foreground runs in the foreground, as a process that can be upgraded.
func (c *command) foreground(ctx context.Context, a *app, several bool, start starter, opts []budgie.RunOption) error {
	upgrader := a.newUpgrader(c.name, true)
	return upgrader.await(ctx, a.withClient(slog.LevelWarn, func(client *budgie.Client) error {
		defer upgrader.serve(ctx, client)()
		return a.foreground(ctx, client, several, start, opts)
	}, upgrader.option()))
}

// load reads all files and reports the problems of all of them.
func load(files []string) ([]bunfile.Spec, error) {
	var specs []bunfile.Spec
	var errs []error
	for _, file := range files {
		s, err := bunfile.Load(file)
		specs, errs = append(specs, s...), append(errs, err)
	}
	return specs, errors.Join(errs...)
}

// starter starts containers and returns when they are ready.
type starter func(client *budgie.Client, opts ...budgie.RunOption) ([]lifecycle.Container, error)

// asSpecified returns what runs containers.
func asSpecified(ctx context.Context, specs []bunfile.Spec) starter {
	return func(client *budgie.Client, opts ...budgie.RunOption) ([]lifecycle.Container, error) {
		return client.RunAll(ctx, specs, opts...)
	}
}

// takingOver returns what takes containers over from the process that runs them, and
// starts them where there is none.
func takingOver(ctx context.Context, specs []bunfile.Spec, start starter) starter {
	return func(client *budgie.Client, opts ...budgie.RunOption) ([]lifecycle.Container, error) {
		recs, err := client.TakeOver(ctx, specs[0].Name, opts...)
		if errors.Is(err, budgie.ErrNotFound) {
			return start(client, opts...)
		}
		return recs, err
	}
}

// detached starts containers that outlive the command, and prints their ids.
func (a *app) detached(client *budgie.Client, start starter, opts []budgie.RunOption) error {
	recs, err := start(client, append(opts, budgie.Detached(), budgie.OnRestart(a.tellRestart))...)
	if err != nil {
		return err
	}
	for _, rec := range recs {
		fmt.Fprintln(a.stdout, rec.ID)
	}
	return nil
}

// tellRestart says that a container ended before it was ready, and why.
func (a *app) tellRestart(rec lifecycle.Container) {
	if rec.State != lifecycle.Stopped {
		fmt.Fprintf(a.stderr, "%s (%s) ended, and was started again: restart %d\n", rec.Name, rec.ShortID(), rec.Restarts)
		return
	}
	in := max(0, time.Until(rec.RestartAt)).Round(100 * time.Millisecond)
	fmt.Fprintln(a.stderr, printable(fmt.Sprintf("%s (%s): %s; it is started again in %s", rec.Name, rec.ShortID(), rec.EndReason(), in)))
}

// foreground starts containers and shows their logs, with names where there are
// several, until they end or ctx does.
func (a *app) foreground(ctx context.Context, client *budgie.Client, several bool, start starter, opts []budgie.RunOption) error {
	recs, err := start(client, append(opts, budgie.OnLog(a.logPrinter(several, false)))...)
	if ctx.Err() != nil {
		return nil // stopped by the user, cleanly: start has waited for the end
	}
	if err != nil {
		return err
	}
	for _, rec := range recs {
		fmt.Fprintf(a.stderr, "%s (%s) is ready on runtime %s%s\n", rec.Name, rec.ShortID(), rec.Runtime, where(rec))
	}
	waiting, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		select {
		case <-client.Replaced():
			fmt.Fprintln(a.stderr, "budgie:", budgie.ErrReplaced)
			stop()
		case <-waiting.Done():
		}
	}()
	errs := make([]error, len(recs))
	var wg sync.WaitGroup
	for i, rec := range recs {
		wg.Go(func() { errs[i] = waitFor(waiting, client, rec) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// waitFor blocks until a container has ended; the error says that it failed.
func waitFor(ctx context.Context, client *budgie.Client, rec lifecycle.Container) error {
	rec, err := client.Wait(ctx, rec.ID)
	switch {
	case ctx.Err() != nil || errors.Is(err, budgie.ErrNotFound):
		return nil
	case err != nil:
		return err
	case rec.Joining != nil && rec.Joining.Withdrawn, // nobody here wanted that
		rec.Desired == lifecycle.WantRunning && (rec.Exit == nil || rec.Exit.Code != 0):
		return fmt.Errorf("container %s (%s) ended: %s", rec.Name, rec.ShortID(), rec.EndReason())
	}
	return nil
}

// where says where a container serves, ready to follow a sentence.
func where(rec lifecycle.Container) string {
	if len(rec.Endpoints) == 0 {
		return ""
	}
	if rec.Endpoints[0].HTTP {
		return ": " + rec.URL()
	}
	return ": " + endpointWord(rec.Endpoints[0])
}

// logPrinter returns a function that prints log entries to the stream they
// came from, with the container's name in front where there are several.
func (a *app) logPrinter(several, timestamps bool) func(lifecycle.Container, runtime.LogEntry) {
	var mu sync.Mutex
	return func(rec lifecycle.Container, e runtime.LogEntry) {
		mu.Lock()
		defer mu.Unlock()
		var w io.Writer = a.stdout
		if e.Stream == runtime.Stderr {
			w = a.stderr
		}
		prefix := ""
		if several {
			prefix = rec.Name + " | "
		}
		if timestamps {
			prefix += e.Time.UTC().Format(time.RFC3339Nano) + " "
		}
		fmt.Fprintf(w, "%s%s\n", prefix, e.Line)
	}
}
