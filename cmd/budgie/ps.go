package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/budgiehq/budgie"
	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/lifecycle"
)

func psCommand() *command {
	c := &command{
		name:    "ps",
		args:    "[-a] [-q] [-format table|json]",
		summary: "List containers.",
		example: "budgie ps -a\nbudgie ps -format json | jq '.[].endpoints'",
	}
	c.run = func(ctx context.Context, a *app, args []string) error {
		fs := c.flags()
		all := fs.Bool("a", false, "list stopped containers too")
		quiet := fs.Bool("q", false, "print only ids")
		bundle(fs, "a", "q")
		format := fs.String("format", "table", "`format` of the list: table, json")
		rest, err := c.parse(a, fs, args)
		if err != nil {
			return err
		}
		if len(rest) > 0 {
			return c.usagef("takes no arguments, but there is %q", rest[0])
		}
		if *format != "table" && *format != "json" {
			return c.usagef("-format is table or json, not %q", *format)
		}
		return a.withClient(slog.LevelWarn, func(client *budgie.Client) error {
			recs, err := client.List(ctx)
			if err != nil {
				return err
			}
			if !*all {
				recs = unfinished(recs)
			}
			return a.printContainers(recs, *quiet, *format)
		})
	}
	return c
}

// unfinished leaves out the containers that have ended for good.
func unfinished(recs []lifecycle.Container) []lifecycle.Container {
	var kept []lifecycle.Container
	for _, rec := range recs {
		if !rec.Finished() {
			kept = append(kept, rec)
		}
	}
	return kept
}

func (a *app) printContainers(recs []lifecycle.Container, quiet bool, format string) error {
	switch {
	case quiet:
		for _, rec := range recs {
			fmt.Fprintln(a.stdout, rec.ShortID())
		}
		return nil
	case format == "json":
		return printJSON(a.stdout, recs, containerJSONOf)
	}
	t := table{header: []string{"ID", "NAME", "STATE", "HEALTH", "IMAGE", "ENDPOINTS"}}
	copies := slices.ContainsFunc(recs, func(rec lifecycle.Container) bool { return len(rec.Volumes) > 0 })
	if copies {
		t.header = append(t.header, "SYNC")
	}
	restarted := slices.ContainsFunc(recs, func(rec lifecycle.Container) bool { return rec.Restarts > 0 })
	if restarted {
		t.header = append(t.header, "RESTARTS")
	}
	orphans := make(map[bool]bool)
	for _, rec := range recs {
		state := stateWord(rec)
		if rec.Unsupervised {
			orphans[rec.Detached] = true
			state += "*"
		}
		cells := []string{rec.ShortID(), shorten(rec.Name, 16), state, healthWord(rec), shorten(imageWord(rec), 13), firstEndpoint(rec)}
		if copies {
			cells = append(cells, syncWord(rec))
		}
		if restarted {
			cells = append(cells, strconv.Itoa(rec.Restarts))
		}
		t.add(cells...)
	}
	t.colour = stateColour
	t.write(a.stdout, a.colour)
	for _, rec := range recs {
		if why := failedStart(rec); why != "" {
			fmt.Fprintln(a.stderr, printable(fmt.Sprintf("%s (%s): %s", rec.Name, rec.ShortID(), why)))
		}
	}
	if len(orphans) > 0 {
		fmt.Fprintln(a.stderr, "* nobody supervises these: they are neither published nor restarted.")
	}
	if orphans[true] {
		fmt.Fprintln(a.stderr, "  \"budgie supervise\" takes on those that were started with -d.")
	}
	if orphans[false] {
		fmt.Fprintln(a.stderr, "  The next \"budgie run\" or \"budgie supervise\" ends those that were started without -d.")
	}
	return nil
}

// stateWord says what a container does. One that waits to be started again is
// stopped only for the time being.
func stateWord(rec lifecycle.Container) string {
	if rec.State == lifecycle.Stopped && !rec.Finished() && rec.Desired == lifecycle.WantRunning {
		return "restarting"
	}
	return string(rec.State)
}

// failedStart says why a container that is stopped did not come to run, or had to
// go; it is empty for those that ran and ended.
func failedStart(rec lifecycle.Container) string {
	withdrawn := rec.Joining != nil && rec.Joining.Withdrawn
	if rec.State != lifecycle.Stopped || rec.Exit != nil && !withdrawn {
		return ""
	}
	why, _, _ := strings.Cut(rec.Reason, "\n")
	return why
}

// healthWord says how a container is, or how it ended.
func healthWord(rec lifecycle.Container) string {
	switch {
	case rec.State == lifecycle.Stopped && rec.Exit != nil && rec.Exit.Code != lifecycle.UnknownExitCode:
		if rec.Exit.OOMKilled {
			return "out of memory"
		}
		return fmt.Sprintf("exit %d", rec.Exit.Code)
	case failedStart(rec) != "":
		return "failed"
	case rec.Health != lifecycle.HealthNone:
		return string(rec.Health)
	case rec.State == lifecycle.Running && !rec.Ready:
		return string(lifecycle.HealthStarting)
	}
	return "-"
}

func imageWord(rec lifecycle.Container) string {
	if image := rec.Spec.Image.DockerImage; image != "" {
		return image
	}
	return rec.Runtime
}

func firstEndpoint(rec lifecycle.Container) string {
	switch n := len(rec.Endpoints); {
	case n == 0 || rec.Finished():
		return "-"
	case n == 1:
		return endpointWord(rec.Endpoints[0])
	default:
		return fmt.Sprintf("%s +%d", endpointWord(rec.Endpoints[0]), n-1)
	}
}

// endpointWord shows an endpoint as host:port, with the protocol where it is not
// TCP.
func endpointWord(e lifecycle.Endpoint) string {
	if e.Protocol == bunfile.UDP {
		return e.String() + "/udp"
	}
	return e.String()
}

// containerJSON is the JSON form of a container. Its names are an interface:
// scripts rely on them.
type containerJSON struct {
	ID         string     `json:"id"`
	Name       string     `json:"name"`
	ServiceID  string     `json:"service_id"`
	State      string     `json:"state"`
	Desired    string     `json:"desired"`
	Health     string     `json:"health"`
	Ready      bool       `json:"ready"`
	Image      string     `json:"image"`
	Runtime    string     `json:"runtime"`
	PID        int        `json:"pid,omitempty"`
	Endpoints  []string   `json:"endpoints"`
	CreatedAt  time.Time  `json:"created_at"`
	StartedAt  *time.Time `json:"started_at"`
	StoppedAt  *time.Time `json:"stopped_at"`
	ExitCode   *int       `json:"exit_code"`
	Restarts   int        `json:"restarts"`
	Reason     string     `json:"reason,omitempty"`
	Detached   bool       `json:"detached"`
	Supervised bool       `json:"supervised"`
	Sync       string     `json:"sync,omitempty"`
}

func containerJSONOf(rec lifecycle.Container) containerJSON {
	j := containerJSON{
		ID: rec.ID, Name: rec.Name, ServiceID: rec.ServiceID, State: string(rec.State), Desired: string(rec.Desired),
		Health: string(rec.Health), Ready: rec.Ready, Image: rec.Spec.Image.DockerImage, Runtime: rec.Runtime,
		PID: rec.PID, Endpoints: []string{}, CreatedAt: rec.CreatedAt, Restarts: rec.Restarts, Reason: rec.Reason,
		Detached: rec.Detached, Supervised: !rec.Finished() && !rec.Unsupervised,
	}
	if j.Health == "" {
		j.Health = "none"
	}
	if len(rec.Volumes) > 0 {
		j.Sync = syncWord(rec)
	}
	for _, e := range rec.Endpoints {
		if !rec.Finished() {
			j.Endpoints = append(j.Endpoints, endpointWord(e))
		}
	}
	if !rec.StartedAt.IsZero() {
		j.StartedAt = &rec.StartedAt
	}
	if rec.Exit != nil {
		j.StoppedAt = &rec.Exit.At
		if rec.Exit.Code != lifecycle.UnknownExitCode {
			j.ExitCode = &rec.Exit.Code
		}
	}
	return j
}

// printJSON prints a list as a JSON array of what conv makes of its members.
func printJSON[T, J any](w io.Writer, list []T, conv func(T) J) error {
	out := make([]J, 0, len(list))
	for _, v := range list {
		out = append(out, conv(v))
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(out)
}

// shorten cuts text to n characters; an ellipsis shows that it did.
func shorten(text string, n int) string {
	runes := []rune(text)
	if len(runes) <= n {
		return text
	}
	return strings.TrimSpace(string(runes[:n-1])) + "…"
}
