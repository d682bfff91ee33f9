//go:build linux

package budgie_test

import (
	"strings"
	"testing"
	"time"

	"github.com/budgiehq/budgie/internal/lan"
)

// awaitNext returns when a role prints a line again that it may have printed before.
func awaitNext(cmd *lan.Cmd, from int, want string) (next int) {
	_, next = cmd.AwaitLine(want, from, func(line string) bool { return strings.Contains(line, want) })
	return next
}

// A host loses its power, with all its processes. A third machine, which is willing
// to, runs a replica in its place, and ends it when the first one is back.
func TestHostRestoresForADeadMachine(t *testing.T) {
	f := newFlockHosts(t, "192.168.1.0/24")
	start := func(h *lan.Host, args ...string) *lan.Cmd {
		cmd := h.Role("host", args...)
		cmd.Env = append(cmd.Env, "BUDGIE_TOKEN="+f.token.Reveal())
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	a, b, c := f.lab.Host("a", f.sw), f.lab.Host("b", f.sw), f.lab.Host("c", f.sw)
	start(a, "host", "run").Await("runs ready=true restored=false")
	second := start(b, "no", "join")
	second.Await("runs ready=true restored=false")
	third := start(c, "host", "")
	third.Await("runs nothing")
	seen := awaitNext(third, 0, "runs nothing")
	<-time.After(5 * time.Second) // it would do something now that it should not
	if printed := third.Printed(); strings.Contains(printed, "ready") {
		t.Errorf("with both there the third machine prints %s", printed)
	}

	began := time.Now()
	a.PowerOff()
	seen = awaitNext(third, seen, "runs ready=true restored=true")
	t.Logf("restored %v after the power was lost", time.Since(began).Round(10*time.Millisecond))
	a.PowerOn()
	began = time.Now()
	again := start(a, "host", "")
	again.Await("runs ready=true restored=false")
	awaitNext(third, seen, "runs nothing")
	t.Logf("stepped back %v after it was there again", time.Since(began).Round(10*time.Millisecond))
	if printed := second.Printed() + again.Printed(); strings.Contains(printed, "restored=true") || strings.Contains(printed, "nothing\nruns ready=true restored=false\nruns nothing") {
		t.Errorf("the others print %s", printed)
	}
}
