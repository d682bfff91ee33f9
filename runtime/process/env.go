//go:build linux || darwin

package process

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/budgiehq/budgie/internal/freeport"
	"github.com/budgiehq/budgie/runtime"
)

// marker is the environment variable by which a container's processes are
// found wherever they went.
const marker = "BUDGIE_CONTAINER_ID"

// inherited are the variables that a container gets from the program that
// starts it, besides LC_*. The last is how macOS tells programs the user's text
// encoding.
var inherited = []string{"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TZ", "TMPDIR", "__CF_USER_TEXT_ENCODING"}

// environment returns a container's environment.
func environment(cfg runtime.Config, root string, addrs []runtime.Address) []string {
	var env []string
	for _, kv := range os.Environ() {
		key, _, _ := strings.Cut(kv, "=")
		if slices.Contains(inherited, key) || strings.HasPrefix(key, "LC_") {
			env = setEnv(env, kv)
		}
	}
	for _, kv := range cfg.Spec.Environment {
		env = setEnv(env, kv)
	}
	for _, kv := range freeport.Environment(addrs) {
		env = setEnv(env, kv)
	}
	env = setEnv(env, "BUDGIE_ROOT="+root)
	env = setEnv(env, "BUDGIE_NAME="+cfg.Spec.Name)
	return setEnv(env, marker+"="+cfg.ID)
}

// setEnv sets a KEY=value entry in place of an earlier one of the same key.
func setEnv(env []string, kv string) []string {
	key, _, _ := strings.Cut(kv, "=")
	for i, e := range env {
		if k, _, _ := strings.Cut(e, "="); k == key {
			env[i] = kv
			return env
		}
	}
	return append(env, kv)
}

// getEnv returns the value of a key in a list of entries.
func getEnv(env []string, key string) string {
	for _, e := range env {
		if k, v, _ := strings.Cut(e, "="); k == key {
			return v
		}
	}
	return ""
}

// shellOwn are variables that a shell sets or refuses for itself.
var shellOwn = []string{"PWD", "OLDPWD", "SHLVL", "_", "IFS", "PPID", "UID", "EUID", "GROUPS", "LINENO", "RANDOM",
	"SECONDS", "OPTIND", "OPTARG", "OPTERR", "PS1", "PS2", "PS4", "ENV", "SHELLOPTS", "BASHOPTS", "BASH_ENV",
	"POSIXLY_CORRECT", "MAIL", "MAILPATH", "MAILCHECK", "HISTFILE", "FUNCNAME", "HOSTNAME", "HOSTTYPE", "MACHTYPE", "OSTYPE"}

// gateScript returns what the shell runs at the gate: it waits for a line on
// file descriptor 3, exits if its other end is closed instead, and becomes the
// command. Variables that a shell does not pass on unchanged, such as a.b=c,
// travel under other names and are put in place by env(1).
func gateScript(env []string) (script string, gateEnv []string) {
	var put, drop strings.Builder
	n := 0
	for _, kv := range env {
		key, _, _ := strings.Cut(kv, "=")
		if isIdentifier(key) && !slices.Contains(shellOwn, key) {
			gateEnv = append(gateEnv, kv)
			continue
		}
		name := "BUDGIE_GATE_" + strconv.Itoa(n)
		n++
		gateEnv = append(gateEnv, name+"="+kv)
		fmt.Fprintf(&drop, " -u %s", name)
		fmt.Fprintf(&put, ` "$%s"`, name)
	}
	script = "IFS= read -r go <&3 || exit 125\nexec 3<&-\nunset go OLDPWD SHLVL\n"
	if n > 0 {
		return script + "exec /usr/bin/env" + drop.String() + put.String() + ` "$@"`, gateEnv
	}
	return script + `exec "$@"`, gateEnv
}

func isIdentifier(s string) bool {
	for i, c := range []byte(s) {
		if c != '_' && (c|0x20 < 'a' || c|0x20 > 'z') && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}
