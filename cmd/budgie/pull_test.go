package main

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/budgiehq/budgie/runtime"
)

// Where there is no terminal, a pull says how far it is every few seconds.
func TestPullLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		d := (&app{stderr: &out}).newPulls()
		show := func(step runtime.PullStep, offset int64) {
			time.Sleep(2 * time.Second)
			d.show("web", runtime.PullProgress{
				Image: "example/web:1", Step: step, Blob: "sha256:abc", Offset: offset, Total: 300 << 20, Err: errors.New("cut\x1b[2J"),
			})
		}
		show(runtime.PullResolving, 0)
		for i := range int64(5) {
			show(runtime.PullFetching, i*50<<20)
		}
		show(runtime.PullRetrying, 0)
		show(runtime.PullFetched, 300<<20)
		show(runtime.PullUnpacking, 0)
		show(runtime.PullDone, 0)
		d.end()
		want := `web: pulling example/web:1
web: 100.0 MiB of 300.0 MiB
web: the transfer broke off and goes on: cut?[2J
web: 300.0 MiB of 300.0 MiB
web: pulled example/web:1, 300.0 MiB, in 18s
`
		if out.String() != want {
			t.Errorf("it prints\n%s\nwant\n%s", out.String(), want)
		}
	})
}

func TestSize(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1 << 20: "1.0 MiB", 5<<30 + 1<<29: "5.5 GiB", 1 << 62: "4096.0 PiB"} {
		if got := size(n); got != want {
			t.Errorf("size(%d) = %s, want %s", n, got, want)
		}
	}
}
