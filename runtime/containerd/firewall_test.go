//go:build linux

package containerd

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/internal/containerdtest"
	"github.com/budgiehq/budgie/runtime"
)

// R7: there is no way around the published ports, and the host's rules for them.
// Another machine that sends packets for a container's own address to this one,
// which forwards, does not get there; the container gets out.
func TestCaseR7NoWayAroundPublishedPorts(t *testing.T) {
	lan := containerdtest.NewLAN(t)
	b := newBench(t)
	// The host lets nothing through by itself, as with Docker.
	tables(t, "iptables", "-w", "-P", "FORWARD", "DROP")
	t.Cleanup(func() { tables(t, "iptables", "-w", "-P", "FORWARD", "ACCEPT") })
	serve := shell("cd /tmp && echo page > index.html && exec httpd -f -p 80")
	serve.Network = bunfile.NetworkBridge
	serve.Ports = []bunfile.Port{{ContainerPort: 80, Protocol: bunfile.TCP}}
	id, st := b.run(serve)
	if len(st.Addresses) != 1 {
		t.Fatalf("addresses %v", st.Addresses)
	}
	addr := st.Addresses[0].HostPort
	b.sh(id, "for i in $(seq 100); do wget -q -O /dev/null http://127.0.0.1/ && exit 0; sleep 0.05; done; exit 1")

	before := dropped(t)
	ctx, cancel := context.WithCancel(b.ctx)
	defer cancel()
	tried := make(chan error, 1)
	go func() {
		conn, err := lan.Dial(ctx, "tcp", addr)
		if err == nil {
			conn.Close()
		}
		tried <- err
	}()
	var err error
	for over := false; !over && dropped(t) == before; {
		select {
		case err = <-tried:
			over = true
			tried <- err
		case <-time.After(10 * time.Millisecond):
		}
	}
	cancel() // a packet was dropped, and nothing will come
	if err := <-tried; err == nil {
		t.Errorf("the other machine reaches the container at %s", addr)
	}

	// This machine does, as its balancer does.
	resp, err := http.Get("http://" + addr)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if page, err := io.ReadAll(resp.Body); err != nil || string(page) != "page\n" {
		t.Errorf("from the host: %q, %v", page, err)
	}

	// And the container reaches the other machine, as this one.
	ln, err := lan.Listen(t, "tcp")
	if err != nil {
		t.Fatal(err)
	}
	client := make(chan string, 1)
	go func() {
		conn, err := ln.Accept()
		if err != nil {
			client <- err.Error()
			return
		}
		defer conn.Close()
		fmt.Fprintln(conn, "welcome")
		client <- conn.RemoteAddr().(*net.TCPAddr).IP.String()
	}()
	host, port, _ := net.SplitHostPort(ln.Addr().String())
	if got := b.sh(id, fmt.Sprintf("nc %s %s < /dev/null", host, port)); got != "welcome\n" {
		t.Errorf("the container gets %q from the other machine", got)
	}
	if got := <-client; got != lan.Here {
		t.Errorf("the other machine sees %s, want %s", got, lan.Here)
	}
}

// testSubnet and otherSubnet are for what no container is in.
const testSubnet, otherSubnet = "198.51.100.0/24", "203.0.113.0/24"

// tables runs one of iptables' tools.
func tables(t *testing.T, tool string, args ...string) string {
	t.Helper()
	out, err := iptables(context.Background(), tool, args...) // also when a test is over
	if err != nil {
		t.Fatalf("%s %q: %v", tool, args, err)
	}
	return out
}

// ownRules are Budgie's rules for subnets that only tests have, and for all, in order.
func ownRules(t *testing.T) []string {
	t.Helper()
	var own []string
	for line := range strings.Lines(tables(t, "iptables-save")) {
		if strings.Contains(line, "budgie: ") && !strings.Contains(line, DefaultSubnet) {
			own = append(own, strings.TrimSpace(line))
		}
	}
	return own
}

// forgetTestRules removes what tests of guard made: containers that start later have
// what they need made.
func forgetTestRules(t *testing.T) {
	tables(t, "iptables", "-w", "-F", "FORWARD")
	tables(t, "iptables", "-w", "-t", "nat", "-F", "POSTROUTING")
	for _, chain := range []string{forwardChain, pluginChain, adminChain} {
		_ = exec.Command("iptables", "-w", "-F", chain).Run() // it may not be there
		_ = exec.Command("iptables", "-w", "-X", chain).Run()
	}
}

// Whatever is lost of the rules is made again, once, and nothing else is touched: rules
// for other subnets and of the machine's owner stay.
func TestGuardMakesWhatIsMissing(t *testing.T) {
	containerdtest.Need(t)
	forgetTestRules(t)
	t.Cleanup(func() { forgetTestRules(t) })
	here := func(subnets ...string) {
		t.Helper()
		for _, subnet := range subnets {
			if err := guard(t.Context(), subnet); err != nil {
				t.Fatal(err)
			}
		}
	}
	here(testSubnet, otherSubnet)
	const owners = "-A " + adminChain + " -s 192.0.2.1/32 -j DROP"
	tables(t, "iptables", "-w", "-A", adminChain, "-s", "192.0.2.1/32", "-j", "DROP")
	all := ownRules(t)
	if len(all) != 8 {
		t.Fatalf("the rules are\n%s", strings.Join(all, "\n"))
	}
	want := slices.Sorted(slices.Values(all))
	for _, lost := range all {
		table := "filter"
		if strings.Contains(lost, "POSTROUTING") {
			table = "nat"
		}
		what, comment, _ := strings.Cut(strings.TrimPrefix(lost, "-A "), " --comment \"")
		comment, does, _ := strings.Cut(comment, "\" -j ")
		tables(t, "iptables", slices.Concat([]string{"-w", "-t", table, "-D"}, strings.Fields(what), []string{"--comment", comment, "-j", does})...)
		if n := len(ownRules(t)); n != len(all)-1 {
			t.Fatalf("without %q there are %d rules", lost, n)
		}
		here(testSubnet, otherSubnet, testSubnet)
		now := ownRules(t)
		if slices.Sort(now); !slices.Equal(now, want) {
			t.Errorf("after %q was lost the rules are\n%s", lost, strings.Join(now, "\n"))
		}
	}
	saved := tables(t, "iptables-save")
	if !strings.Contains(saved, owners) {
		t.Errorf("the owner's rule is gone:\n%s", saved)
	}
	if _, chain, _ := strings.Cut(saved, "\n-A "+forwardChain+" "); !strings.HasSuffix(strings.SplitN(chain, "\n", 2)[0], "-j "+adminChain) {
		t.Errorf("the owner's rules do not come first:\n%s", saved)
	}
	forgetTestRules(t)
	here(testSubnet, otherSubnet)
	if now := ownRules(t); len(now) != len(all) {
		t.Errorf("after all were lost the rules are\n%s", strings.Join(now, "\n"))
	}
}

// Where a table has rules that iptables does not understand, and so does not show, each
// rule is asked for, and none is made twice; nor does another table stand in the way.
func TestGuardBesideRulesOfOthers(t *testing.T) {
	containerdtest.Need(t)
	forgetTestRules(t)
	t.Cleanup(func() { forgetTestRules(t) })
	here := func() {
		t.Helper()
		if err := guard(t.Context(), testSubnet); err != nil {
			t.Fatal(err)
		}
	}
	here()
	tables(t, "iptables", "-w", "-A", adminChain, "-s", "192.0.2.1/32", "-j", "DROP")
	want := tables(t, "iptables-save")
	for _, chain := range []string{"filter FORWARD", "nat POSTROUTING"} {
		out, err := exec.Command("nft", strings.Fields("-e -a add rule ip "+chain+" ct state invalid counter")...).CombinedOutput()
		if err != nil {
			t.Fatalf("nft: %v: %s", err, out)
		}
		_, handle, _ := strings.Cut(string(out), "# handle ")
		if out, err := iptables(t.Context(), "iptables-save", "-t", strings.Fields(chain)[0]); err == nil && !strings.Contains(out, hidden) {
			t.Errorf("the table is shown:\n%s", out)
		}
		here()
		here()
		if out, err := exec.Command("nft", strings.Fields("delete rule ip "+chain+" handle "+handle)...).CombinedOutput(); err != nil {
			t.Fatalf("nft: %v: %s", err, out)
		}
	}
	if now := tables(t, "iptables-save"); !slices.Equal(rulesOf(now), rulesOf(want)) {
		t.Errorf("the rules are\n%s\nwant\n%s", now, want)
	}
}

// rulesOf are the rules that iptables-save shows, without its comments and counters.
func rulesOf(saved string) []string {
	return slices.DeleteFunc(strings.Split(saved, "\n"), func(line string) bool { return !strings.HasPrefix(line, "-A") })
}

// A subnet is the same however it is written.
func TestGuardKnowsSubnets(t *testing.T) {
	containerdtest.Need(t)
	forgetTestRules(t)
	t.Cleanup(func() { forgetTestRules(t) })
	for range 2 {
		if err := guard(t.Context(), "198.51.100.9/24"); err != nil {
			t.Fatal(err)
		}
		if own := ownRules(t); len(own) != 6 {
			t.Errorf("the rules are\n%s", strings.Join(own, "\n"))
		}
	}
}

// pretendFirewalld has this machine look as if it had firewalld, which does not run.
func pretendFirewalld(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "firewall-cmd"), []byte("#!/bin/sh\nexit 252\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

// Where the firewall is as new, as after a boot, guard makes the chains of the firewall
// plugin, too: plugins that make them at the same time fail.
func TestGuardMakesTheChains(t *testing.T) {
	containerdtest.Need(t)
	forgetTestRules(t)
	t.Cleanup(func() { forgetTestRules(t) })
	pretendFirewalld(t)
	for range 2 {
		if err := guard(t.Context(), testSubnet); err != nil {
			t.Fatal(err)
		}
		dropped(t) // the rule is there, once
		for _, chain := range []string{adminChain, pluginChain} {
			tables(t, "iptables", "-w", "-nL", chain)
		}
	}
}

// Where firewalld may run the firewall plugin is asked to let a container through, and
// takes that back, also when firewalld was removed meanwhile.
func TestFirewallPluginBesideFirewalld(t *testing.T) {
	b := newBench(t)
	s := shell("sleep 1000")
	s.Network = bunfile.NetworkBridge
	s.Ports = []bunfile.Port{{ContainerPort: 80, Protocol: bunfile.TCP}}
	rulesFor := func(st runtime.Status) int {
		t.Helper()
		ip, _, err := net.SplitHostPort(st.Addresses[0].HostPort)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Count(tables(t, "iptables-save"), " "+ip+"/32 ")
	}
	_, st := b.run(s)
	if n := rulesFor(st); n != 0 {
		t.Errorf("without firewalld a container has %d rules", n)
	}
	t.Run("with firewalld", func(t *testing.T) {
		pretendFirewalld(t)
		_, st = b.run(s)
		if n := rulesFor(st); n == 0 {
			t.Error("the firewall plugin was not asked")
		}
	})
	// The bench ends here, and finds what is left.
}

// dropped is how many packets the rule of guard has dropped. There is one such
// rule, however many containers were started.
func dropped(t *testing.T) int {
	t.Helper()
	out, err := exec.Command("iptables", "-w", "-nvxL", forwardChain).CombinedOutput()
	if err != nil {
		t.Fatalf("iptables: %v\n%s", err, out)
	}
	count, rules := 0, 0
	for line := range strings.Lines(string(out)) {
		if fields := strings.Fields(line); strings.Contains(line, "/* budgie:") && fields[2] == "DROP" {
			n, err := strconv.Atoi(fields[0])
			if err != nil {
				t.Fatalf("iptables says %q", line)
			}
			count, rules = count+n, rules+1
		}
	}
	if rules != 1 {
		t.Fatalf("there are %d rules of Budgie in\n%s", rules, out)
	}
	return count
}

func TestGuardWithoutIptables(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if err := guard(t.Context(), testSubnet); err == nil || !strings.Contains(err.Error(), "apt-get install iptables") {
		t.Errorf("guard = %v", err)
	}
}
