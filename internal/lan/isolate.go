//go:build linux

package lan

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"github.com/budgiehq/budgie/internal/isolation"
)

// roleEnv names the role of a process that is the test binary.
const roleEnv = "BUDGIE_LAN_ROLE"

// Isolate is called first in TestMain. It gives the test process namespaces of
// its own, as [isolation.Isolate] does, and is the main function of processes
// that [Host.Role] starts.
func Isolate(roles Roles) {
	isolation.Isolate()
	name := os.Getenv(roleEnv)
	if name == "" {
		return
	}
	role, ok := roles[name]
	if !ok {
		fmt.Fprintf(os.Stderr, "lan: no role %q\n", name)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	err := role(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "role %s: %v\n", name, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// Role returns a command that runs a role of the test binary in the host.
func (h *Host) Role(name string, args ...string) *Cmd {
	cmd := h.wrap(exec.Command("/proc/self/exe", args...))
	cmd.Path = h.lab.self
	cmd.Args[0] = h.lab.self
	cmd.Env = append(cmd.Env, roleEnv+"="+name)
	return cmd
}
