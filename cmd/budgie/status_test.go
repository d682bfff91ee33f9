package main

import (
	"testing"

	"github.com/budgiehq/budgie/lifecycle"
)

// The column of "budgie ps" has the worst copy, in whatever order they are.
func TestWorstCopy(t *testing.T) {
	for want, phases := range map[string][]lifecycle.SyncPhase{
		"-":          nil,
		"synced":     {lifecycle.Synced, lifecycle.Synced},
		"syncing":    {lifecycle.Syncing, lifecycle.Synced},
		"suspended":  {lifecycle.SyncSuspended, lifecycle.Syncing},
		"cut off":    {lifecycle.SyncStarting, lifecycle.SyncCut},
		"superseded": {lifecycle.SyncCut, lifecycle.SyncSuperseded, lifecycle.Synced},
	} {
		var rec lifecycle.Container
		for _, p := range phases {
			rec.Volumes = append(rec.Volumes, lifecycle.VolumeSync{Phase: p})
		}
		if got := syncWord(rec); got != want {
			t.Errorf("of %q the worst is %q, want %q", phases, got, want)
		}
	}
}
