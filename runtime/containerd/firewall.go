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

// guard has the rules that all containers on the bridge share in place, see [rules].
//
// They stay when the last container is gone, as the bridge does. They are looked for
// at every start, since firewalls are loaded anew at times.
func guard(ctx context.Context, subnet string) error {
	all := rules(subnet)
	if lost, err := missing(ctx, all); err != nil || len(lost) == 0 {
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
	lost, err := missing(ctx, all)
	if err != nil || len(lost) == 0 {
		return err
	}
	if err := makeChains(ctx); err != nil {
		return err
	}
	for _, r := range lost {
		action := "-A"
		if r.first {
			action = "-I"
		}
		if _, err := iptables(ctx, "iptables", r.args(action)...); err != nil {
			return fmt.Errorf("have the firewall know that %s: %w", r.says, err)
		}
	}
	return nil
}

const (
	// forwardChain is a chain of Budgie's own in the table filter.
	forwardChain = "BUDGIE-FORWARD"
	// adminChain is where the owner of a machine puts rules that go before all
	// others for containers, and pluginChain that of the firewall plugin, whose both are.
	adminChain, pluginChain = "CNI-ADMIN", "CNI-FORWARD"
)

// makeChains makes the chains that are not there, and leaves the others as they are.
func makeChains(ctx context.Context) error {
	chains := []string{forwardChain, adminChain}
	if firewalld() {
		// The plugin looks for its chains and then makes them: of two at the same time
		// one fails.
		chains = append(chains, pluginChain)
	}
	for _, chain := range chains {
		if _, err := iptables(ctx, "iptables", "-w", "-N", chain); err != nil && !strings.Contains(err.Error(), "exists") {
			return fmt.Errorf("make the chain %s of the firewall: %w", chain, err)
		}
	}
	return nil
}

// A rule of the firewall is known by its chain, by what it says of itself and by what it
// does.
type rule struct {
	table, chain, match, says, does string
	// first: it goes before the others of its chain.
	first bool
}

func (r rule) comment() string { return "budgie: " + r.says }

// args are what iptables is to be called with to do something with the rule.
func (r rule) args(action string) []string {
	return slices.Concat([]string{"-w", "-t", r.table, action, r.chain}, strings.Fields(r.match),
		[]string{"-m", "comment", "--comment", r.comment(), "-j", r.does})
}

// is reports whether a line of iptables-save is the rule: that writes what a rule
// matches in its own way.
func (r rule) is(line string) bool {
	return strings.HasPrefix(line, "-A "+r.chain+" ") && strings.Contains(line, fmt.Sprintf("--comment %q ", r.comment())) &&
		strings.HasSuffix(line, " -j "+r.does)
}

// rules are those for a subnet, in the order in which they are made. There is one of each
// for all containers: that the standard plugins make several for each of them, by a
// process each, would be half of the time of a start.
//
// One keeps other machines from reaching containers otherwise than through published
// ports, where the host's rules for those hold. Containers need a host that forwards, and
// such a host also forwards what another machine sends by way of it to a container's own
// address. What rules of the host's own translate to containers passes.
func rules(subnet string) []rule {
	if p, err := netip.ParsePrefix(subnet); err == nil {
		subnet = p.Masked().String() // however it was written
	}
	return []rule{
		{"filter", forwardChain, "", "the owner of the machine comes first", adminChain, true},
		{"filter", forwardChain, "-o " + bridge + " ! -i " + bridge + " -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT", "containers are reached through published ports", "DROP", false},
		{"filter", forwardChain, "-o " + bridge + " -m conntrack --ctstate RELATED,ESTABLISHED", "containers get answers", "ACCEPT", false},
		{"filter", forwardChain, "-s " + subnet + " -i " + bridge, "containers of " + subnet + " reach others", "ACCEPT", false},
		{"filter", "FORWARD", "", "containers have rules of their own", forwardChain, true},
		{"nat", "POSTROUTING", "-s " + subnet + " ! -d " + subnet + " ! -o " + bridge, "containers of " + subnet + " have the address of the host outside", "MASQUERADE", false},
	}
}

// missing returns those of the rules that are not there.
func missing(ctx context.Context, all []rule) (lost []rule, err error) {
	saved := map[string]string{"filter": "", "nat": ""}
	for table := range saved {
		// A table in which somebody has rules that are none of iptables' is not shown.
		if saved[table], err = iptables(ctx, "iptables-save", "-t", table); errors.Is(err, exec.ErrNotFound) || ctx.Err() != nil {
			return nil, fmt.Errorf("look at the firewall's rules for the bridge %s: %w", bridge, err)
		} else if err != nil {
			saved[table] = hidden
		}
	}
	for _, r := range all {
		there := slices.ContainsFunc(strings.Split(saved[r.table], "\n"), r.is)
		if !there && strings.Contains(saved[r.table], hidden) {
			_, err := iptables(ctx, "iptables", r.args("-C")...)
			there = err == nil
		}
		if !there {
			lost = append(lost, r)
		}
	}
	return lost, nil
}

// hidden is what iptables-save says of a table instead of showing it, in a comment.
const hidden = "is incompatible"

// iptables runs one of iptables' tools and returns what it prints.
func iptables(ctx context.Context, tool string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, tool, args...)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
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
