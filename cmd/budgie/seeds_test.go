package main

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/creack/pty"

	"github.com/budgiehq/budgie"
	"github.com/budgiehq/budgie/replica"
)

// received is an event of a volume of which so many MiB of 300 are there.
func received(step replica.Step, files int, mib int64) budgie.SeedProgress {
	return budgie.SeedProgress{
		Step: budgie.SeedReceiving, Volume: budgie.JoinVolume{Target: "/data"}, Received: 1 << 20,
		Progress: replica.Progress{Step: step, Files: files, TotalFiles: 12, Bytes: mib << 20, TotalBytes: 300 << 20},
	}
}

// Where there is no terminal, a copy says how far it is every few seconds.
func TestSeedLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		d := (&app{stderr: &out}).newSeeds()
		show := func(e budgie.SeedProgress) {
			d.show("web", e)
			time.Sleep(2 * time.Second)
		}
		volume := budgie.JoinVolume{Target: "/data"}
		show(budgie.SeedProgress{Step: budgie.SeedStarted, Volume: volume, Node: "4711", Addr: "192.0.2.1:18733"})
		for _, step := range []replica.Step{"", replica.Waiting, replica.Comparing} {
			for range 3 {
				show(received(step, 0, 20))
			}
		}
		for i := range int64(6) {
			show(received(replica.Receiving, int(i), 20+i*50))
		}
		for range 4 {
			show(received(replica.Verifying, 12, 300))
		}
		show(budgie.SeedProgress{Step: budgie.SeedFailed, Volume: volume, Node: "4711", Err: errors.New("cut\x1b[2J")})
		d.end()
		want := `web: copying volume /data from node 4711 at 192.0.2.1:18733
web: volume /data: 1MiB received
web: volume /data: waiting for the list of what it has
web: volume /data: comparing what is here, 20MiB read
web: volume /data: 2 of 12 files, 120MiB of 300MiB, 25MiB/s, 7s left
web: volume /data: 5 of 12 files, 270MiB of 300MiB, 25MiB/s, 1s left
web: volume /data: verifying 12 of 12 files, 300MiB of 300MiB, 0B/s
web: volume /data did not come from node 4711: cut?[2J
`
		if out.String() != want {
			t.Errorf("it prints\n%s\nwant\n%s", out.String(), want)
		}
	})
}

// On a terminal a copy is a bar, with lines above it.
func TestSeedBar(t *testing.T) {
	keyboard, screen, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	if err := pty.Setsize(keyboard, &pty.Winsize{Rows: 24, Cols: 120}); err != nil {
		t.Fatal(err)
	}
	shown := make(chan string)
	go func() {
		text, _ := io.ReadAll(keyboard) // it ends with an error when the screen is closed
		shown <- string(text)
	}()
	d := (&app{stderr: screen, draws: true}).newSeeds()
	volume := budgie.JoinVolume{Target: "/data"}
	d.show("web", budgie.SeedProgress{Step: budgie.SeedStarted, Volume: volume})
	d.show("web", received(replica.Comparing, 0, 0))
	d.show("web", received(replica.Receiving, 7, 150))
	d.end()
	d.show("web", budgie.SeedProgress{Step: budgie.SeedStarted, Volume: volume})
	d.show("web", received(replica.Verifying, 12, 300))
	d.show("web", budgie.SeedProgress{Step: budgie.SeedDone, Volume: volume, Report: replica.Report{Files: 12, Bytes: 300 << 20}})
	_ = screen.Close()
	text := <-shown
	_ = keyboard.Close()
	for _, want := range []string{"web /data  [=", "7 of 12 files, 150MiB of 300MiB", "verifying 12 of 12 files, 300MiB of 300MiB", "is here and verified: 12 files"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not on the screen:\n%s", want, text)
		}
	}
}

func TestMeter(t *testing.T) {
	start := time.Unix(1e9, 0)
	at := func(s float64) time.Time { return start.Add(time.Duration(s * float64(time.Second))) }
	var m meter
	if words := m.words(start, 100<<20); words != "" {
		t.Errorf("having seen nothing it says %q", words)
	}
	for i := range 20 {
		m.note(at(float64(i)), int64(i)<<20)
	}
	for _, c := range []struct {
		at    float64
		total int64
		want  string
	}{
		{19, 100 << 20, ", 1MiB/s, 1m21s left"},
		{19, 19 << 20, ", 1MiB/s"},
		{29, 39 << 20, ", 512KiB/s, 40s left"}, // nothing has come for ten seconds
		{19, 1 << 50, ", 1MiB/s"},              // longer than anybody would believe
	} {
		if got := m.words(at(c.at), c.total); got != c.want {
			t.Errorf("at %v, of %d: %q, want %q", c.at, c.total, got, c.want)
		}
	}
	if len(m.seen) > 12 {
		t.Errorf("it keeps %d samples", len(m.seen))
	}
	m.note(at(21), 1<<20) // some of it comes again
	if got := m.words(at(21), 100<<20); got != "" {
		t.Errorf("when it fell back it says %q", got)
	}
}
