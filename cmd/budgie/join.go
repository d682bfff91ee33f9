package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"

	"github.com/budgiehq/budgie"
	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/lifecycle"
)

// joinFlags are the flags of chirp that are for joining.
type joinFlags struct {
	detach, rm, allowProcess, dryRun, verify *bool
	name, runtime                            *string
	weight                                   *int
	ready                                    *seconds
	rate                                     *bytesPerSecond
}

// joinFlagNames are their names.
var joinFlagNames = []string{"d", "name", "runtime", "rm", "allow-process", "dry-run", "ready-timeout", "weight", "sync-rate", "verify"}

func newJoinFlags(fs *flag.FlagSet) *joinFlags {
	return &joinFlags{
		detach:       fs.Bool("d", false, "join: detach, return once the replica is ready, and print its id"),
		verify:       fs.Bool("verify", false, "join: read all files of the volumes again, here and there, whatever their times say"),
		name:         fs.String("name", "", "join: `name` of the replica here, instead of the one that it has elsewhere"),
		runtime:      fs.String("runtime", "auto", "join: `runtime` to use: auto, process, containerd"),
		rm:           fs.Bool("rm", false, "join: remove the replica, with its log, when it is done"),
		allowProcess: fs.Bool("allow-process", false, "join: run also what is not an image but a command of this machine"),
		dryRun:       fs.Bool("dry-run", false, "join: say what would run, and change nothing"),
		weight:       fs.Int("weight", 0, fmt.Sprintf("join: the share of the traffic of the replica here where balancers go by weights, `1 to %d` (default: as the service's file says, else 1)", bunfile.MaxWeight)),
		ready:        secondsFlag(fs, "ready-timeout", "join: how long the replica may take to become ready (a `time`; default 1m plus its start_period)"),
		rate:         rateFlag(fs, "sync-rate", "join: how many bytes of volumes may come per second (a `size` such as 10MiB), until a supervisor keeps them"),
	}
}

// firstSet returns the first of the named flags that the command line has.
func firstSet(fs *flag.FlagSet, names ...string) string {
	set := ""
	fs.Visit(func(f *flag.Flag) {
		if set == "" && slices.Contains(names, f.Name) {
			set = f.Name
		}
	})
	return set
}

// join runs a replica of what another node announces.
func (c *command) join(ctx context.Context, a *app, fs *flag.FlagSet, f *joinFlags, peers, args []string) error {
	switch {
	case len(args) > 1:
		return c.usagef("one ID or NAME at a time, not %d", len(args))
	case args[0] == "":
		return c.usagef("the ID or NAME is empty")
	case f.ready.set && f.ready.value <= 0:
		return c.usagef("-ready-timeout is a time above 0s, not %s", f.ready)
	}
	if name := firstSet(fs, "timeout", "format"); name != "" {
		return c.usagef("-%s is for listing, not for joining", name)
	}
	if weighed := firstSet(fs, "weight") != ""; weighed && (*f.weight < 1 || *f.weight > bunfile.MaxWeight) {
		return c.usagef("-weight is a number from 1 to %d, not %d", bunfile.MaxWeight, *f.weight)
	}
	opts := []budgie.RunOption{budgie.OnRuntime(*f.runtime), budgie.Named(*f.name)}
	if *f.weight > 0 {
		opts = append(opts, budgie.Weight(*f.weight))
	}
	if *f.rm {
		opts = append(opts, budgie.AutoRemove())
	}
	if *f.allowProcess {
		opts = append(opts, budgie.AllowProcess())
	}
	if *f.verify {
		opts = append(opts, budgie.FullCheck())
	}
	if f.ready.set {
		opts = append(opts, budgie.ReadyWithin(f.ready.value))
	}
	return a.withClient(slog.LevelWarn, func(client *budgie.Client) error {
		if *f.dryRun {
			plan, err := client.PlanJoin(ctx, args[0], opts...)
			if err == nil {
				printPlan(a.stdout, plan, "would run")
			}
			return err
		}
		pulls := a.newPulls()
		defer pulls.end()
		volumes := a.newSeeds()
		defer volumes.end()
		opts = append(opts, budgie.OnPull(pulls.show), budgie.OnSeed(volumes.show), budgie.OnJoin(func(plan budgie.JoinPlan) {
			printPlan(a.stderr, plan, "joining")
		}))
		start := func(_ *budgie.Client, opts ...budgie.RunOption) ([]lifecycle.Container, error) {
			rec, err := client.Join(ctx, args[0], opts...)
			return []lifecycle.Container{rec}, err
		}
		if *f.detach {
			if err := a.detached(client, start, opts); err != nil {
				return err
			}
			a.noteOwnPeers(peers)
			return nil
		}
		return a.foreground(ctx, client, false, start, opts)
	}, append(f.rate.options(), budgie.WithPeers(peers...))...)
}

// noteOwnPeers says that whoever looks after a replica does not know the peers that
// only this command line names.
func (a *app) noteOwnPeers(peers []string) {
	known := strings.Split(os.Getenv("BUDGIE_PEERS"), ",")
	peers = slices.DeleteFunc(slices.Clone(peers), func(p string) bool { return slices.Contains(known, p) })
	if len(peers) > 0 {
		a.note("the supervisor finds other machines by multicast and by BUDGIE_PEERS, not by -peer: where multicast does not work, run it with BUDGIE_PEERS=%s", strings.Join(peers, ","))
	}
}

// printPlan says what a join is about to do, and from whom.
func printPlan(w io.Writer, p budgie.JoinPlan, verb string) {
	what := p.Spec.Image.DockerImage
	if what == "" {
		what = "the command " + strings.Join(p.Spec.Image.Command, " ")
	}
	if p.ImageDigest != "" {
		what += " (" + p.ImageDigest[:min(19, len(p.ImageDigest))] + ")"
	}
	fmt.Fprintln(w, printable(fmt.Sprintf("%s %s: %s on runtime %s", verb, p.Spec.Name, what, p.Runtime)))
	for _, r := range p.Replicas {
		fmt.Fprintln(w, printable(fmt.Sprintf("  replica %.12s on node %.12s at %s", r.ID, r.Node, r.Addr)))
	}
	for _, v := range p.Volumes {
		fmt.Fprintln(w, printable(fmt.Sprintf("  volume %s (%s) copied to %s, where it follows its owner", v.Target, v.Mode, v.Dir)))
	}
}
