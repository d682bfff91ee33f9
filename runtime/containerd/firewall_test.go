//go:build linux

package containerd

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/internal/containerdtest"
)

// R7: there is no way around the published ports, and the host's rules for them.
// Another machine that sends packets for a container's own address to this one,
// which forwards, does not get there; the container gets out.
func TestCaseR7NoWayAroundPublishedPorts(t *testing.T) {
	lan := containerdtest.NewLAN(t)
	b := newBench(t)
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

// Where the firewall is as new, as after a boot, guard makes the chains of the
// firewall plugin, too: plugins that make them at the same time fail.
func TestGuardMakesTheChains(t *testing.T) {
	containerdtest.Need(t)
	for _, args := range []string{"-F FORWARD", "-F CNI-FORWARD", "-F CNI-ADMIN", "-X CNI-FORWARD", "-X CNI-ADMIN"} {
		_ = exec.Command("iptables", append([]string{"-w"}, strings.Fields(args)...)...).Run() // it may not be there
	}
	for range 2 {
		if err := guard(t.Context(), testSubnet); err != nil {
			t.Fatal(err)
		}
		dropped(t) // the rule is there, once
		for _, chain := range []string{"CNI-FORWARD", "CNI-ADMIN"} {
			if out, err := exec.Command("iptables", "-w", "-nL", chain).CombinedOutput(); err != nil {
				t.Errorf("chain %s: %v: %s", chain, err, out)
			}
		}
	}
}

// testSubnet is for what no container is in.
const testSubnet = "198.51.100.0/24"

// The rule that lets containers out is there once for each subnet, and made again where
// it was lost.
func TestGuardLetsOut(t *testing.T) {
	containerdtest.Need(t)
	flush := func() {
		if out, err := exec.Command("iptables", "-w", "-t", "nat", "-F", "POSTROUTING").CombinedOutput(); err != nil {
			t.Fatalf("iptables: %v\n%s", err, out)
		}
	}
	t.Cleanup(flush) // containers that start later have their rule made
	rules := func() int {
		out, err := exec.Command("iptables", "-w", "-t", "nat", "-S", "POSTROUTING").CombinedOutput()
		if err != nil {
			t.Fatalf("iptables: %v\n%s", err, out)
		}
		return strings.Count(string(out), "-s "+testSubnet)
	}
	for range 2 {
		for range 2 {
			if err := guard(t.Context(), testSubnet); err != nil {
				t.Fatal(err)
			}
			if n := rules(); n != 1 {
				t.Errorf("there are %d rules for the subnet", n)
			}
		}
		flush()
	}
}

// dropped is how many packets the rule of guard has dropped. There is one such
// rule, however many containers were started.
func dropped(t *testing.T) int {
	t.Helper()
	out, err := exec.Command("iptables", "-w", "-nvxL", "FORWARD").CombinedOutput()
	if err != nil {
		t.Fatalf("iptables: %v\n%s", err, out)
	}
	count, rules := 0, 0
	for line := range strings.Lines(string(out)) {
		if fields := strings.Fields(line); strings.Contains(line, "/* budgie:") {
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
