package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/budgiehq/budgie"
	"github.com/budgiehq/budgie/lifecycle"
	"golang.org/x/term"
)

// topEvery is how often traffic is asked for.
const topEvery = time.Second

func topCommand() *command {
	c := &command{
		name: "top",
		args: "[-no-stream] [-format table|json] [ID|NAME…]",
		summary: "Show the traffic of services, every second, all without arguments.\nThey are those of this machine and of the flock's other nodes.\n" +
			"Requests are those that come in at the ports that the nodes publish, per second\nover the last 10 s; latencies are the time until an answer begins, those of the\nnode where they are longest.",
		example: "budgie top\nbudgie top -no-stream -format json web | jq '.[0].requests_per_second'",
	}
	c.run = func(ctx context.Context, a *app, args []string) error {
		fs := c.flags()
		once := fs.Bool("no-stream", false, "show it once and end")
		format := fs.String("format", "table", "`format` of the list: table, json")
		refs, err := c.parse(a, fs, args)
		if err != nil {
			return err
		}
		if *format != "table" && *format != "json" {
			return c.usagef("-format is table or json, not %q", *format)
		}
		draws := !*once && term.IsTerminal(int(os.Stdout.Fd()))
		show := func(rows []serviceTraffic) error {
			if *format == "json" {
				return printJSON(a.stdout, rows, func(t serviceTraffic) serviceTraffic { return t })
			}
			a.drawTop(rows, draws)
			return nil
		}
		return a.withClient(slog.LevelWarn, func(client *budgie.Client) error {
			for all, err := range client.WatchTraffic(ctx, topEvery) {
				if ctx.Err() != nil {
					return nil // the user has seen enough
				}
				if err != nil {
					return err
				}
				rows, err := byService(all, refs)
				if err != nil {
					return err
				}
				if err := show(rows); err != nil || *once {
					return err
				}
			}
			return nil
		})
	}
	return c
}

// serviceTraffic is a row: a service. Its names in JSON are an interface: scripts
// rely on them.
type serviceTraffic struct {
	Name      string `json:"name"`
	ServiceID string `json:"service_id"`
	Replicas  int    `json:"replicas"`
	Ready     int    `json:"ready"`
	// What follows is null where no node tells of it.
	Requests    *uint64  `json:"requests"`
	Failures    *uint64  `json:"failures"`
	Rate        *float64 `json:"requests_per_second"`
	FailureRate *float64 `json:"failures_per_second"`
	P50         *float64 `json:"p50_ms"`
	P99         *float64 `json:"p99_ms"`
	Active      *int     `json:"active"`
	Sync        string   `json:"sync,omitempty"`
	// Nodes has the same of each replica.
	Nodes []nodeTraffic `json:"nodes"`
}

type nodeTraffic struct {
	ID          string   `json:"id"`
	Node        string   `json:"node"`
	Local       bool     `json:"local"`
	State       string   `json:"state"`
	Ready       bool     `json:"ready"`
	Requests    *uint64  `json:"requests"`
	Failures    *uint64  `json:"failures"`
	Shed        *uint64  `json:"shed"`
	Rate        *float64 `json:"requests_per_second"`
	FailureRate *float64 `json:"failures_per_second"`
	P50         *float64 `json:"p50_ms"`
	P99         *float64 `json:"p99_ms"`
	Active      *int     `json:"active"`
	Connections *int     `json:"connections"`
	Sync        string   `json:"sync,omitempty"`
}

// byService makes rows of those replicas that refs mean, of all without.
func byService(all []budgie.ContainerTraffic, refs []string) ([]serviceTraffic, error) {
	rows := []serviceTraffic{}
	found := make(map[string]bool)
	for _, one := range all {
		wanted := len(refs) == 0
		for _, ref := range refs {
			if one.Name == ref || hasPrefixFold(one.ID, ref) || hasPrefixFold(one.ServiceID, ref) {
				wanted, found[ref] = true, true
			}
		}
		if !wanted {
			continue
		}
		i := slices.IndexFunc(rows, func(t serviceTraffic) bool { return t.ServiceID == one.ServiceID })
		if i < 0 {
			i = len(rows)
			rows = append(rows, serviceTraffic{Name: one.Name, ServiceID: one.ServiceID})
		}
		rows[i].add(one)
	}
	for _, ref := range refs {
		if !found[ref] {
			return nil, fmt.Errorf("%q: %w, neither here nor on a node of the flock that answers", ref, budgie.ErrNotFound)
		}
	}
	return rows, nil
}

// hasPrefixFold reports whether an id begins with what a person wrote.
func hasPrefixFold(id, ref string) bool {
	return ref != "" && len(ref) <= len(id) && bytes.EqualFold([]byte(id[:len(ref)]), []byte(ref))
}

// add counts a replica in.
func (s *serviceTraffic) add(one budgie.ContainerTraffic) {
	n := nodeTraffic{ID: one.ID, Node: one.Node, Local: one.Local, State: string(one.State), Ready: one.Ready && one.Health != lifecycle.Unhealthy}
	if len(one.Volumes) > 0 {
		n.Sync = syncWord(lifecycle.Container{Volumes: one.Volumes})
	}
	if t := one.Traffic; t != nil {
		n.Requests, n.Failures, n.Shed, n.Rate, n.FailureRate = &t.Requests, &t.Failures, &t.Shed, &t.Rate, &t.FailureRate
		n.Active, n.Connections = &t.Active, &t.Connections
		n.P50, n.P99 = millis(t.P50), millis(t.P99)
	}
	s.Nodes = append(s.Nodes, n)
	s.Replicas++
	if n.Ready {
		s.Ready++
	}
	s.Requests, s.Failures = sum(s.Requests, n.Requests), sum(s.Failures, n.Failures)
	s.Rate, s.FailureRate, s.Active = sum(s.Rate, n.Rate), sum(s.FailureRate, n.FailureRate), sum(s.Active, n.Active)
	s.P50, s.P99 = most(s.P50, n.P50), most(s.P99, n.P99)
	if n.Sync != "" && (s.Sync == "" || n.Sync != string(lifecycle.Synced)) {
		s.Sync = n.Sync
	}
}

// millis are milliseconds, nil for none.
func millis(d time.Duration) *float64 {
	if d == 0 {
		return nil
	}
	ms := float64(d.Round(time.Microsecond)) / float64(time.Millisecond)
	return &ms
}

// sum adds what is known.
func sum[N uint64 | float64 | int](a, b *N) *N {
	if a == nil || b == nil {
		return cmp.Or(a, b)
	}
	n := *a + *b
	return &n
}

// most is the greater of what is known.
func most(a, b *float64) *float64 {
	if a == nil || b == nil {
		return cmp.Or(a, b)
	}
	n := max(*a, *b)
	return &n
}

// drawTop prints rows, on a terminal in place of those before.
func (a *app) drawTop(rows []serviceTraffic, draws bool) {
	var b bytes.Buffer
	if draws {
		b.WriteString(clearScreen)
	}
	writeTop(&b, rows)
	_, _ = a.stdout.Write(b.Bytes()) // it remembers its errors
}

func writeTop(w io.Writer, rows []serviceTraffic) {
	t := table{header: []string{"NAME", "READY", "REQ/S", "ERR/S", "P50", "P99", "ACTIVE", "SYNC"}}
	for _, r := range rows {
		t.add(shorten(r.Name, 16), fmt.Sprintf("%d/%d", r.Ready, r.Replicas), known(r.Rate, rateWord), known(r.FailureRate, rateWord),
			known(r.P50, latencyWord), known(r.P99, latencyWord), known(r.Active, strconv.Itoa), cmp.Or(r.Sync, "-"))
	}
	t.write(w, false)
}

// known writes what is known.
func known[T any](v *T, word func(T) string) string {
	if v == nil {
		return "-"
	}
	return word(*v)
}

func rateWord(perSecond float64) string { return strconv.FormatFloat(perSecond, 'f', 1, 64) }

// latencyWord writes milliseconds with two or three digits.
func latencyWord(ms float64) string {
	switch {
	case ms >= 10000:
		return strconv.FormatFloat(ms/1000, 'f', 0, 64) + "s"
	case ms >= 1000:
		return strconv.FormatFloat(ms/1000, 'f', 1, 64) + "s"
	case ms >= 10:
		return strconv.FormatFloat(ms, 'f', 0, 64) + "ms"
	case ms >= 1:
		return strconv.FormatFloat(ms, 'f', 1, 64) + "ms"
	}
	return strconv.FormatFloat(ms, 'f', 2, 64) + "ms"
}
