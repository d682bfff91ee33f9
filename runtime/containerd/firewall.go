//go:build linux

package containerd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// guard has the rules that all containers on the bridge share in place.
//
// One keeps other machines from reaching containers otherwise than through published
// ports, where the host's rules for those hold. Containers need a host that forwards,
// and such a host also forwards what another machine sends by way of it to a
// container's own address. Answers to what containers sent pass, and so does what rules
// of the host's own translate to them. The other lets containers out with the host's
// address; that the bridge plugin makes several rules for each of them would take up to
// half of the time of a start.
//
// The rules stay when the last container is gone, as the bridge does. They are
// looked for at every start, since firewalls are loaded anew at times.
func guard(ctx context.Context, subnet string) error {
	if err := os.MkdirAll(runDir, 0o711); err != nil {
		return err
	}
	lock, err := lockFile(ctx, filepath.Join(runDir, "firewall.lock")) // so that each rule is made once
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := keepOthersOut(ctx); err != nil {
		return err
	}
	return letOut(ctx, subnet)
}

func keepOthersOut(ctx context.Context) error {
	rule := []string{"FORWARD", "-o", bridge, "!", "-i", bridge, "-m", "conntrack", "!", "--ctstate", "RELATED,ESTABLISHED,DNAT",
		"-m", "comment", "--comment", "budgie: containers are reached through published ports", "-j", "DROP"}
	if iptables(ctx, "-C", rule) == nil {
		return nil
	}
	// The firewall plugin looks for its chains and then makes them: of two at the
	// same time one fails. Where the rule is, they are.
	for _, chain := range []string{"CNI-FORWARD", "CNI-ADMIN"} {
		if err := iptables(ctx, "-N", []string{chain}); err != nil && iptables(ctx, "-L", []string{chain, "-n"}) != nil {
			return fmt.Errorf("make the chain %s of the CNI firewall plugin: %w", chain, err)
		}
	}
	if err := iptables(ctx, "-I", rule); err != nil {
		return fmt.Errorf("keep other machines away from the bridge %s: %w", bridge, err)
	}
	return nil
}

func letOut(ctx context.Context, subnet string) error {
	rule := []string{"POSTROUTING", "-t", "nat", "-s", subnet, "!", "-d", subnet, "!", "-o", bridge,
		"-m", "comment", "--comment", "budgie: containers go out with the address of the host", "-j", "MASQUERADE"}
	if iptables(ctx, "-C", rule) == nil {
		return nil
	}
	if err := iptables(ctx, "-A", rule); err != nil {
		return fmt.Errorf("let the containers of the bridge %s out: %w", bridge, err)
	}
	return nil
}

// iptables does something with a rule. The tool is there where the firewall plugin
// works, which needs it, too.
func iptables(ctx context.Context, action string, rule []string) error {
	out, err := exec.CommandContext(ctx, "iptables", append([]string{"-w", action}, rule...)...).CombinedOutput()
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, exec.ErrNotFound):
		return fmt.Errorf("%w: install it, on Debian and Ubuntu with \"sudo apt-get install iptables\", or use network: host", err)
	}
	return fmt.Errorf("iptables %s: %w: %s", action, err, strings.TrimSpace(string(out)))
}
