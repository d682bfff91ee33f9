//go:build linux

package containerdtest_test

import (
	"path/filepath"
	"testing"

	"github.com/budgiehq/budgie/internal/containerdtest"
	"github.com/budgiehq/budgie/internal/lan"
)

// Hosts of a laboratory have a containerd each, which goes when the power does
// and comes back with what it had.
func TestDaemonOfAHost(t *testing.T) {
	containerdtest.Need(t)
	lab := lan.New(t)
	sw := lab.Switch()
	var daemons []*containerdtest.Daemon
	hosts := []*lan.Host{lab.Host("a", sw), lab.Host("b", sw)}
	for _, h := range hosts {
		d, err := containerdtest.StartOn(t.TempDir(), h.Start)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Kill()
		daemons = append(daemons, d)
	}
	socket := func(i int) string { return filepath.Join(daemons[i].Dir, "containerd.sock") }
	hosts[0].Run("ctr", "-a", socket(0), "namespaces", "create", "mark")
	if out := hosts[1].Run("ctr", "-a", socket(1), "namespaces", "list", "-q"); out != "" {
		t.Errorf("the containerd of the other host has %q", out)
	}
	hosts[0].PowerOff()
	daemons[0].Kill() // waits until it has ended
	hosts[0].PowerOn()
	if err := daemons[0].Start(); err != nil {
		t.Fatal(err)
	}
	if out := hosts[0].Run("ctr", "-a", socket(0), "namespaces", "list", "-q"); out != "mark\n" {
		t.Errorf("after the power cut there is %q", out)
	}
}
