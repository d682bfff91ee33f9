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

// guard keeps other machines from reaching containers on the bridge otherwise
// than through published ports, where the host's rules for those hold. Containers
// need a host that forwards, and such a host also forwards what another machine
// sends by way of it to a container's own address. Answers to what containers
// sent pass, and so does what rules of the host's own translate to them.
//
// The rule stays when the last container is gone, as the bridge does. It is
// looked for at every start, since firewalls are loaded anew at times.
func guard(ctx context.Context) error {
	rule := []string{"FORWARD", "-o", bridge, "!", "-i", bridge, "-m", "conntrack", "!", "--ctstate", "RELATED,ESTABLISHED,DNAT",
		"-m", "comment", "--comment", "budgie: containers are reached through published ports", "-j", "DROP"}
	if err := os.MkdirAll(runDir, 0o711); err != nil {
		return err
	}
	lock, err := lockFile(ctx, filepath.Join(runDir, "firewall.lock")) // so that one rule is made
	if err != nil {
		return err
	}
	defer lock.Close()
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

// iptables does something with a rule. The tool is there where the bridge plugin
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
