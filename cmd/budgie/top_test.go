package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/budgiehq/budgie"
	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/peer"
)

func TestTopByService(t *testing.T) {
	all := []budgie.ContainerTraffic{
		{
			ID: "aa11", Name: "web", ServiceID: "5e", Local: true, Ready: true, Volumes: []lifecycle.VolumeSync{{Phase: lifecycle.Synced}},
			Traffic: &peer.Traffic{Requests: 5, Rate: 1.5, FailureRate: .5, P50: 2 * time.Millisecond, P99: 1500 * time.Millisecond, Active: 1},
		},
		{
			ID: "aa22", Name: "web", ServiceID: "5e", Volumes: []lifecycle.VolumeSync{{Phase: lifecycle.Syncing}},
			Traffic: &peer.Traffic{Requests: 7, Rate: 100, P50: 700 * time.Microsecond, P99: 20 * time.Millisecond, Active: 2},
		},
		{ID: "bb33", Name: "db", ServiceID: "db", Ready: true},
		{ID: "bb44", Name: "db", ServiceID: "db", Ready: true, Health: lifecycle.Unhealthy},
	}
	rows, err := byService(all, nil)
	if err != nil || len(rows) != 2 || len(rows[0].Nodes) != 2 || *rows[0].Requests != 12 || rows[1].Requests != nil {
		t.Fatalf("rows %+v, %v", rows, err)
	}
	var b bytes.Buffer
	writeTop(&b, rows)
	want := `
NAME  READY  REQ/S  ERR/S  P50    P99   ACTIVE  SYNC
web   1/2    101.5  0.5    2.0ms  1.5s  3       syncing
db    1/2    -      -      -      -     -       -
`
	if got := "\n" + b.String(); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	for _, ref := range []string{"db", "BB3"} {
		if rows, err := byService(all, []string{ref}); err != nil || len(rows) != 1 || rows[0].Name != "db" {
			t.Errorf("%s: %+v, %v", ref, rows, err)
		}
	}
	if _, err := byService(all, []string{"db", "nosuch"}); !errors.Is(err, budgie.ErrNotFound) || !strings.Contains(err.Error(), "nosuch") {
		t.Errorf("got %v", err)
	}
	if *all[0].Traffic != (peer.Traffic{Requests: 5, Rate: 1.5, FailureRate: .5, P50: 2 * time.Millisecond, P99: 1500 * time.Millisecond, Active: 1}) {
		t.Errorf("what was added up was changed: %+v", all[0].Traffic)
	}
}

func TestLatencyWord(t *testing.T) {
	for ms, want := range map[float64]string{.064: "0.06ms", 1.25: "1.2ms", 99.6: "100ms", 1500: "1.5s", 61000: "61s"} {
		if got := latencyWord(ms); got != want {
			t.Errorf("%v ms are %s, want %s", ms, got, want)
		}
	}
}
