//go:build linux

package mdns

import (
	"strings"
	"testing"

	"github.com/budgiehq/budgie/discovery"
	"github.com/budgiehq/budgie/internal/lan"
)

// avahiSees waits until avahi has resolved an instance on an interface.
func avahiSees(t *testing.T, h *lan.Host, label string) string {
	t.Helper()
	browse := h.Command("avahi-browse", "-rp", "_budgie._tcp")
	if err := browse.Start(); err != nil {
		t.Fatal(err)
	}
	line, _ := browse.AwaitLine("the resolved "+label, 0, func(line string) bool {
		f := strings.Split(line, ";")
		return len(f) > 8 && f[0] == "=" && f[2] == "IPv4" && f[3] == label
	})
	if err := browse.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = browse.Wait() // killed
	return line
}

// label returns the first label of an instance's name.
func label(name string) string {
	label, _, _ := strings.Cut(name, ".")
	return label
}

// Avahi on the same machines: both work, nobody is renamed, and they find each
// other's services, in both directions.
func TestCaseD3BesideAvahi(t *testing.T) {
	t.Parallel()
	lab := lan.New(t)
	sw := lab.Switch()
	a, b := lab.Host("a", sw), lab.Host("b", sw)
	here, there := a.Avahi(), b.Avahi()
	atA := runNode(t, a, 1)
	ours := replica(1, "web")
	for _, h := range []*lan.Host{a, b} { // the same machine and another one
		line := avahiSees(t, h, label(instanceName(ours)))
		f := strings.Split(line, ";")
		if f[7] != a.NIC(0).Addr().String() || f[8] != "7946" || !strings.Contains(line, ours.ID) {
			t.Errorf("avahi on %s resolved %s", h.Name, line)
		}
		if all := h.Run("avahi-browse", "-rpt", "_budgie._tcp"); !strings.Contains(all, line+"\n") {
			t.Errorf("avahi-browse -rpt on %s prints %s", h.Name, all)
		}
	}

	// What avahi publishes for us, the other way.
	theirs := replica(2, "web")
	txt, err := discovery.EncodeTXT(theirs)
	if err != nil {
		t.Fatal(err)
	}
	publish := b.Command("avahi-publish", append([]string{"-s", label(instanceName(theirs)), "_budgie._tcp", "7946"}, txt...)...)
	odd := b.Command("avahi-publish", "-s", "not one of ours", "_budgie._tcp", "80", "path=/")
	for _, cmd := range []*lan.Cmd{odd, publish} {
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		cmd.Await("Established")
	}
	atA.eventWith("", 2, exactly(b.NIC(0).Addrs()...))

	// Avahi's own business goes on.
	door := b.Command("avahi-publish", "-s", "door", "_test._tcp", "80")
	if err := door.Start(); err != nil {
		t.Fatal(err)
	}
	door.Await("Established")
	browse := a.Command("avahi-browse", "-rp", "_test._tcp")
	if err := browse.Start(); err != nil {
		t.Fatal(err)
	}
	browse.Await(";b.local;" + b.NIC(0).Addr().String() + ";80;")
	for h, avahi := range map[string]*lan.Avahi{"a": here, "b": there} {
		if name := avahi.HostName(); name != h {
			t.Errorf("avahi on host %s calls it %q now", h, name)
		}
	}
	stats := atA.stop()
	if !strings.Contains(stats, "Conflicts:0 Renames:0") || strings.Contains(stats, " Invalid:0 ") {
		t.Errorf("the counts are %s, want no conflict, and the odd one counted as invalid", stats)
	}
}

// A name that avahi has is left to it, and one that we have is defended against
// it.
func TestNamesBetweenAvahiAndUs(t *testing.T) {
	t.Parallel()
	lab := lan.New(t)
	sw := lab.Switch()
	a, b := lab.Host("a", sw), lab.Host("b", sw)
	b.Avahi()
	publish := func(name string) *lan.Cmd {
		cmd := b.Command("avahi-publish", "-s", name, "_budgie._tcp", "80")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	taken := replica(1, "web")
	publish(label(instanceName(taken))).Await("Established")
	atA := runNode(t, a, 1)
	line := avahiSees(t, b, label(otherName(taken, 2)))
	if !strings.Contains(line, "name=web") {
		t.Errorf("the container has another name now: %s", line)
	}
	// Ours are the others': avahi's client looks for another name.
	publish(label(otherName(taken, 2))).Await("Name collision")
	if stats := atA.stop(); !strings.Contains(stats, "Renames:1") {
		t.Errorf("the counts are %s, want one rename", stats)
	}
}
