//go:build linux

package containerd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// guard has the rules that all containers on the bridge share in place, see [missing].
//
// They stay when the last container is gone, as the bridge does. They are looked for
// at every start, since firewalls are loaded anew at times.
func guard(ctx context.Context, subnet string) error {
	if lines, err := missing(ctx, subnet); err != nil || lines == "" {
		return err
	}
	if err := os.MkdirAll(runDir, 0o711); err != nil {
		return err
	}
	lock, err := lockFile(ctx, filepath.Join(runDir, "firewall.lock")) // so that each rule is made once
	if err != nil {
		return err
	}
	defer lock.Close()
	lines, err := missing(ctx, subnet)
	if err != nil || lines == "" {
		return err
	}
	if _, err := iptables(ctx, lines, "iptables-restore", "-w", "--noflush"); err != nil {
		return fmt.Errorf("make the firewall's rules for the bridge %s: %w", bridge, err)
	}
	return nil
}

// missing returns what of the rules for a subnet is not there, as iptables-restore
// takes it.
func missing(ctx context.Context, subnet string) (string, error) {
	saved, err := iptables(ctx, "", "iptables-save")
	if err != nil {
		return "", fmt.Errorf("look at the firewall's rules for the bridge %s: %w", bridge, err)
	}
	return missingFrom(saved, subnet), nil
}

const (
	// forwardChain is a chain of Budgie's own in the table filter. The chain FORWARD
	// begins with it.
	forwardChain = "BUDGIE-FORWARD"
	// adminChain is where the owner of a machine puts rules that go before all
	// others for containers: that of the firewall plugin.
	adminChain = "CNI-ADMIN"
)

// A rule of the firewall is known by its chain, its comment and what it does.
type rule struct{ chain, match, comment, does string }

func (r rule) String() string {
	return fmt.Sprintf("-A %s %s -m comment --comment %q -j %s", r.chain, r.match, "budgie: "+r.comment, r.does)
}

// is reports whether a line of iptables-save is the rule: that writes what a rule
// matches in its own way.
func (r rule) is(line string) bool {
	return strings.HasPrefix(line, "-A "+r.chain+" ") && strings.Contains(line, fmt.Sprintf("--comment %q ", "budgie: "+r.comment)) &&
		strings.HasSuffix(line, " -j "+r.does)
}

var (
	ownersRules = rule{forwardChain, "", "the owner of the machine comes first", adminChain}
	answersIn   = rule{forwardChain, "-o " + bridge + " -m conntrack --ctstate RELATED,ESTABLISHED", "containers get answers", "ACCEPT"}
	// othersOut keeps other machines from reaching containers otherwise than through
	// published ports, where the host's rules for those hold. Containers need a host
	// that forwards, and such a host also forwards what another machine sends by way of
	// it to a container's own address. What rules of the host's own translate to
	// containers passes.
	othersOut = rule{forwardChain, "-o " + bridge + " ! -i " + bridge + " -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT", "containers are reached through published ports", "DROP"}
)

// outwards lets the containers of a subnet out.
func outwards(subnet string) rule {
	return rule{forwardChain, "-s " + subnet + " -i " + bridge, "containers of " + subnet + " reach others", "ACCEPT"}
}

// masquerade has containers go out with the address of the host.
func masquerade(subnet string) rule {
	return rule{"POSTROUTING", "-s " + subnet + " ! -d " + subnet + " ! -o " + bridge, "containers of " + subnet + " have the address of the host outside", "MASQUERADE"}
}

// missingFrom is missing where the rules of the host are what iptables-save says.
// There is one of each for all containers: that the standard plugins make several for
// each of them, by a process each, would be half of the time of a start.
func missingFrom(saved, subnet string) string {
	if p, err := netip.ParsePrefix(subnet); err == nil {
		subnet = p.Masked().String() // as iptables writes it
	}
	lines := strings.Split(saved, "\n")
	has := func(r rule) bool { return slices.ContainsFunc(lines, r.is) }
	var filter, nat []string
	own := []rule{ownersRules, answersIn, othersOut, outwards(subnet)}
	if !slices.ContainsFunc(own, func(r rule) bool { return !has(r) }) {
		own = nil // they are all there
	}
	if own != nil {
		if !strings.Contains(saved, "\n:"+adminChain+" ") {
			filter = append(filter, ":"+adminChain+" - [0:0]")
		}
		filter = append(filter, ":"+forwardChain+" - [0:0]") // which empties it
		for _, r := range own {
			filter = append(filter, r.String())
		}
		for _, line := range lines {
			// Those of other subnets: a rule of theirs is as good as new.
			if strings.HasPrefix(line, "-A "+forwardChain+" -s ") && !own[len(own)-1].is(line) {
				filter = append(filter, line)
			}
		}
	}
	if !slices.ContainsFunc(lines, func(line string) bool {
		return strings.HasPrefix(line, "-A FORWARD ") && strings.HasSuffix(line, "-j "+forwardChain)
	}) {
		filter = append(filter, "-I FORWARD -j "+forwardChain)
	}
	if r := masquerade(subnet); !has(r) {
		nat = append(nat, r.String())
	}
	return table("filter", filter) + table("nat", nat)
}

// table returns lines for a table as iptables-restore takes them.
func table(name string, lines []string) string {
	if len(lines) == 0 {
		return ""
	}
	return "*" + name + "\n" + strings.Join(lines, "\n") + "\nCOMMIT\n"
}

// iptables runs one of iptables' tools and returns what it prints.
func iptables(ctx context.Context, in, tool string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, tool, args...)
	var out, said bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(in), &out, &said
	err := cmd.Run()
	switch {
	case err == nil:
		return out.String(), nil
	case ctx.Err() != nil:
		return "", context.Cause(ctx)
	case errors.Is(err, exec.ErrNotFound):
		return "", fmt.Errorf("%w: install it, on Debian and Ubuntu with \"sudo apt-get install iptables\", or use network: host", err)
	}
	return "", fmt.Errorf("%s: %w: %s", tool, err, strings.TrimSpace(said.String()))
}

// firewalld reports whether this machine has firewalld. Where that runs, what other
// rules let through it refuses nevertheless: the firewall plugin asks it by name.
func firewalld() bool {
	_, err := exec.LookPath("firewall-cmd")
	return err == nil
}
