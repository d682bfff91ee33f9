package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/budgiehq/budgie/lifecycle"
)

// show prints the live table until ctx ends: again in the same place on a
// terminal, elsewhere once per change of a state or health.
func (c *cluster) show(ctx context.Context) {
	terminal := term.IsTerminal(int(os.Stdout.Fd()))
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	last, lines := "", 0
	for {
		text, states := c.table(ctx)
		if terminal && lines > 0 {
			fmt.Printf("\x1b[%dA\x1b[J", lines)
		}
		if terminal || states != last {
			fmt.Print(text)
			last, lines = states, strings.Count(text, "\n")
		}
		select {
		case <-ctx.Done():
			fmt.Println()
			return
		case <-tick.C:
		}
	}
}

// table returns the table of all replicas, and their states alone, which tell
// whether anything but the counts changed.
func (c *cluster) table(ctx context.Context) (text, states string) {
	requests := make(map[string]uint64)
	for _, b := range c.frontend.Status() {
		requests[b.ID] = b.Requests
	}
	var t, s strings.Builder
	fmt.Fprintf(&t, "%-12s  %-8s  %-8s  %-9s  %8s  %8s\n", "REPLICA", "PID", "STATE", "HEALTH", "RESTARTS", "REQUESTS")
	for _, n := range c.nodes {
		rec, err := n.client.Get(ctx, n.replica.ID)
		if err != nil {
			rec = lifecycle.Container{ID: n.replica.ID, State: "unknown"}
		}
		pid, health := "-", "-"
		if rec.PID != 0 {
			pid = strconv.Itoa(rec.PID)
		}
		if rec.Health != lifecycle.HealthNone {
			health = string(rec.Health)
		}
		fmt.Fprintf(&t, "%-12s  %-8s  %-8s  %-9s  %8d  %8d\n", rec.ShortID(), pid, rec.State, health, rec.Restarts, requests[rec.ID])
		fmt.Fprintln(&s, rec.ID, rec.PID, rec.State, rec.Health)
	}
	return t.String(), s.String()
}
