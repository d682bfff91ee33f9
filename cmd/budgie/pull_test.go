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
web: 100MiB of 300MiB
web: the transfer broke off, and is tried again where it stopped: cut?[2J
web: 300MiB of 300MiB
web: pulled example/web:1, 300MiB, in 18s
`
		if out.String() != want {
			t.Errorf("it prints\n%s\nwant\n%s", out.String(), want)
		}
	})
}
