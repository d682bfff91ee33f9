//go:build linux

package main

import (
	"context"
	"runtime"

	"github.com/budgiehq/budgie"
	"github.com/budgiehq/budgie/internal/benchreport"
)

// machine says what was measured, on what, and when.
func (w *world) machine(ctx context.Context) []string {
	lines := []string{
		benchreport.Machine(),
		"Budgie " + budgie.Version + " built with " + runtime.Version(),
		benchreport.FirstLine(ctx, "containerd", "--version") + ", " + benchreport.FirstLine(ctx, "runc", "--version"),
	}
	if w.docker != nil {
		lines = append(lines, benchreport.FirstLine(ctx, w.docker.client, "--version"))
	}
	return lines
}
