package main

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/budgiehq/budgie"
	"github.com/budgiehq/budgie/lifecycle"
)

func statusCommand() *command {
	c := &command{
		name: "status",
		args: "[-accept] [-format table|json] [ID|NAME]",
		summary: "Show how far the copies of volumes are behind, on all machines of the flock.\n" +
			"Without an argument it shows the services that run on this machine.",
		example: "budgie status web\nbudgie status -accept web",
	}
	c.run = func(ctx context.Context, a *app, args []string) error {
		fs := c.flags()
		accept := fs.Bool("accept", false, "let this machine's copies lose what their source has lost")
		format := fs.String("format", "table", "`format` of the list: table, json")
		rest, err := c.parse(a, fs, args)
		if err != nil {
			return err
		}
		switch {
		case len(rest) > 1:
			return c.usagef("takes one name or id, but there is %q too", rest[1])
		case *accept && len(rest) == 0:
			return c.usagef("-accept needs the name or id of a container")
		case *format != "table" && *format != "json":
			return c.usagef("-format is table or json, not %q", *format)
		}
		ref := ""
		if len(rest) == 1 {
			ref = rest[0]
		}
		return a.withClient(slog.LevelWarn, func(client *budgie.Client) error {
			if *accept {
				return a.acceptLoss(ctx, client, ref)
			}
			list, err := client.VolumeStatus(ctx, ref)
			if err != nil {
				return err
			}
			if *format == "json" {
				return printJSON(a.stdout, list, volumeJSONOf)
			}
			switch {
			case len(list) > 0:
				a.printVolumes(list)
			case ref != "":
				a.note("%s has no volumes", ref)
			default:
				a.note("no container with volumes runs on this machine")
			}
			return nil
		})
	}
	return c
}

func (a *app) acceptLoss(ctx context.Context, client *budgie.Client, ref string) error {
	held, err := client.AcceptLoss(ctx, ref)
	for _, v := range held {
		fmt.Fprintln(a.stdout, printable(fmt.Sprintf("%s: accepted: %s", v.Target, v.Reason)))
	}
	return err
}

// printVolumes prints a table, and below it what there is to say of copies that
// are not as their source.
func (a *app) printVolumes(list []budgie.VolumeStatus) {
	t := table{header: []string{"NAME", "VOLUME", "NODE", "STATE", "SYNCED", "PENDING", "CONFLICTS"}}
	for _, v := range list {
		node := "this one"
		if !v.Local {
			node = v.Node[:min(12, len(v.Node))]
		}
		target := v.Target
		if target == "" {
			target = "(all)"
		}
		if v.Sync.Phase == "" {
			t.add(shorten(v.Name, 16), shorten(target, 24), node, "owner", "-", "-", "-")
			continue
		}
		t.add(shorten(v.Name, 16), shorten(target, 24), node, string(v.Sync.Phase), ago(v.Sync.SyncedAt), pendingWord(v.Sync), fmt.Sprint(v.Sync.Conflicts))
	}
	t.write(a.stdout, a.colour)
	for _, v := range list {
		which := fmt.Sprintf("%s: volume %s", v.Name, v.Target)
		if !v.Local {
			which = fmt.Sprintf("%s on node %.12s: volume %s", v.Name, v.Node, v.Target)
		}
		if v.Sync.Reason != "" {
			a.note("%s: %s: %s", which, v.Sync.Phase, v.Sync.Reason)
		}
		if v.Sync.NotKept != "" {
			a.note("%s: the copy cannot keep %s", which, v.Sync.NotKept)
		}
		switch {
		case v.Sync.Held == "":
		case v.Local:
			a.note("  \"budgie status -accept %s\" takes that over; what is lost is kept in %s.kept for a day", v.Name, v.Dir)
		default:
			a.note("  \"budgie status -accept %s\" on that machine takes that over; what is lost is kept beside the copy for a day", v.Name)
		}
		if v.Sync.Kept != "" {
			a.note("%s: what was changed in the copy is kept, the last of it as %s", which, v.Sync.Kept)
		}
	}
}

// note prints a line for a person. What is in it may come from another node.
func (a *app) note(format string, args ...any) {
	fmt.Fprintln(a.stderr, printable(fmt.Sprintf(format, args...)))
}

// ago says how long ago a moment was.
func ago(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return max(0, time.Since(t)).Round(time.Second).String() + " ago"
}

func pendingWord(v lifecycle.VolumeSync) string {
	if v.PendingFiles == 0 && v.PendingBytes == 0 {
		return "-"
	}
	return fmt.Sprintf("%d files, %s", v.PendingFiles, size(uint64(max(0, v.PendingBytes))))
}

// syncWord says how the copies of a container's volumes are: the worst of them.
func syncWord(rec lifecycle.Container) string {
	worst := -1
	for _, v := range rec.Volumes {
		worst = max(worst, slices.Index(badness, v.Phase))
	}
	if worst < 0 {
		return "-"
	}
	return string(badness[worst])
}

// badness are the phases of copies, the worst last.
var badness = []lifecycle.SyncPhase{lifecycle.Synced, lifecycle.Syncing, lifecycle.SyncStarting, lifecycle.SyncCut, lifecycle.SyncSuspended, lifecycle.SyncSuperseded}

// volumeJSON is the JSON form of a volume's state. Its names are an interface:
// scripts rely on them.
type volumeJSON struct {
	Container    string     `json:"container"`
	Name         string     `json:"name"`
	ServiceID    string     `json:"service_id"`
	Node         string     `json:"node,omitempty"`
	Local        bool       `json:"local"`
	Target       string     `json:"target"`
	Dir          string     `json:"dir,omitempty"`
	Owner        bool       `json:"owner"`
	Term         uint64     `json:"term"`
	State        string     `json:"state,omitempty"`
	SyncedAt     *time.Time `json:"synced_at"`
	PendingFiles int        `json:"pending_files"`
	PendingBytes int64      `json:"pending_bytes"`
	Conflicts    int        `json:"conflicts"`
	Kept         string     `json:"kept,omitempty"`
	Reason       string     `json:"reason,omitempty"`
	NotKept      string     `json:"not_kept,omitempty"`
	Held         string     `json:"held,omitempty"`
}

func volumeJSONOf(v budgie.VolumeStatus) volumeJSON {
	s := v.Sync
	j := volumeJSON{
		Container: v.Container, Name: v.Name, ServiceID: v.ServiceID, Node: v.Node, Local: v.Local, Target: v.Target, Dir: v.Dir,
		Owner: s.Phase == "", Term: v.Term, State: string(s.Phase), PendingFiles: s.PendingFiles, PendingBytes: s.PendingBytes,
		Conflicts: s.Conflicts, Kept: s.Kept, Reason: s.Reason, NotKept: s.NotKept, Held: s.Held,
	}
	if !s.SyncedAt.IsZero() {
		j.SyncedAt = &s.SyncedAt
	}
	return j
}
