//go:build unix

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/budgiehq/budgie/internal/lan"
	"github.com/rogpeppe/go-internal/testscript"
)

// binDir holds the real budgie binary and the program that it runs as a
// container.
var binDir string

func TestMain(m *testing.M) {
	lan.Isolate(lan.Roles{"load": loadRole, "ask": askRole})
	os.Exit(testMain(m))
}

func testMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "budgie-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	binDir = dir
	for name, pkg := range map[string]string{"budgie": ".", "testserver": "../../internal/testserver"} {
		out, err := exec.Command("go", "build", "-o", filepath.Join(dir, name), pkg).CombinedOutput()
		if err != nil {
			fmt.Fprintf(os.Stderr, "build %s: %v\n%s", name, err, out)
			return 1
		}
	}
	return m.Run()
}

// loopback is the name of the loopback interface.
func loopback() string {
	if runtime.GOOS == "darwin" {
		return "lo0"
	}
	return "lo"
}

// TestScripts runs the real binary through the scripts in testdata/script. They
// see no containerd.
func TestScripts(t *testing.T) {
	testscript.Run(t, scripts("testdata/script", func(env *testscript.Env) error {
		env.Setenv("CONTAINERD_ADDRESS", filepath.Join(env.WorkDir, "no-containerd.sock"))
		return nil
	}))
}

// scripts are those in a directory, each with a data directory of its own.
func scripts(dir string, setup func(*testscript.Env) error) testscript.Params {
	return testscript.Params{
		Dir:                 dir,
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", binDir+string(os.PathListSeparator)+env.Getenv("PATH"))
			env.Setenv("BUDGIE_DATA_DIR", filepath.Join(env.WorkDir, "data"))
			env.Setenv("BUDGIE_BIND", "127.0.0.1")
			env.Setenv("BUDGIE_INTERFACES", loopback())
			if err := setup(env); err != nil {
				return err
			}
			env.Defer(func() { endAll(env.Getenv("BUDGIE_DATA_DIR"), containerdEnv(env.Getenv)...) })
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"get":            cmdGet,
			"ask":            cmdAsk,
			"eventually":     cmdEventually,
			"killcontainer":  cmdKillContainer,
			"killsupervisor": cmdKillSupervisor,
			"occupy":         cmdOccupy,
			"ambiguous":      cmdAmbiguous,
			"exits":          cmdExits,
			"env-replace":    cmdEnvReplace,
		},
	}
}

// containerdEnv is what tells a command where a script's containerd is.
func containerdEnv(getenv func(string) string) []string {
	return []string{"CONTAINERD_ADDRESS=" + getenv("CONTAINERD_ADDRESS"), "CONTAINERD_NAMESPACE=" + getenv("CONTAINERD_NAMESPACE")}
}

// endAll ends what a failed script left running.
func endAll(data string, env ...string) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	env = append(append(os.Environ(), "BUDGIE_DATA_DIR="+data, "BUDGIE_INTERFACES="+loopback(), "BUDGIE_BIND=127.0.0.1"), env...)
	ps := exec.CommandContext(ctx, filepath.Join(binDir, "budgie"), "ps", "-q")
	ps.Env = env
	out, err := ps.Output()
	if ids := strings.Fields(string(out)); err == nil && len(ids) > 0 {
		rm := exec.CommandContext(ctx, filepath.Join(binDir, "budgie"), append([]string{"rm", "-f"}, ids...)...)
		rm.Env = env
		_ = rm.Run()
	}
}

// psEntry is what scripts need of "budgie ps -format json".
type psEntry struct {
	ID        string   `json:"id"`
	Name      string   `json:"name"`
	PID       int      `json:"pid"`
	Endpoints []string `json:"endpoints"`
}

// container returns the container of a name, as ps lists it.
func container(ts *testscript.TestScript, name string) psEntry {
	for _, e := range listed(ts) {
		if e.Name == name {
			return e
		}
	}
	ts.Fatalf("ps lists no container %s", name)
	return psEntry{}
}

// listed are all containers of the script's data directory.
func listed(ts *testscript.TestScript) []psEntry {
	cmd := exec.Command(filepath.Join(binDir, "budgie"), "ps", "-a", "-format", "json")
	cmd.Env = append(append(os.Environ(), "BUDGIE_DATA_DIR="+ts.Getenv("BUDGIE_DATA_DIR")), containerdEnv(ts.Getenv)...)
	out, err := cmd.Output()
	ts.Check(err)
	var entries []psEntry
	ts.Check(json.Unmarshal(out, &entries))
	return entries
}

// get [-soon] NAME TEXT: the container's first endpoint answers with TEXT in
// its body, at once or within 15 s.
func cmdGet(ts *testscript.TestScript, neg bool, args []string) {
	var patience time.Duration
	if len(args) == 3 && args[0] == "-soon" {
		patience, args = 15*time.Second, args[1:]
	}
	if len(args) != 2 {
		ts.Fatalf("usage: get [-soon] NAME TEXT")
	}
	for deadline := time.Now().Add(patience); ; {
		var body string
		err := errors.New("it has no endpoints")
		if strings.HasPrefix(args[0], "http://") {
			body, err = fetch(args[0])
		} else if c := container(ts, args[0]); len(c.Endpoints) > 0 {
			body, err = fetch("http://" + c.Endpoints[0])
		}
		if ok := err == nil && strings.Contains(body, args[1]); ok != neg {
			return
		}
		if !time.Now().Before(deadline) {
			ts.Fatalf("get %s: %q, %v", args[0], body, err)
		}
	}
}

// ask NAME|udp://ADDR QUESTION ANSWER: the container's UDP port, or an address that
// somebody is about to serve, answers so within 15 s, to a client that asks again where
// nothing comes, as clients of UDP do.
func cmdAsk(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 3 || neg {
		ts.Fatalf("usage: ask NAME|udp://ADDR QUESTION ANSWER")
	}
	addr, soon := strings.CutPrefix(args[0], "udp://")
	if !soon {
		addr = udpEndpoint(ts, args[0])
	}
	conn, err := net.Dial("udp", addr)
	ts.Check(err)
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	answer, err := askUDP(ctx, conn, args[1])
	for tick := time.NewTicker(50 * time.Millisecond); soon && errors.Is(err, syscall.ECONNREFUSED); <-tick.C {
		answer, err = askUDP(ctx, conn, args[1])
	}
	ts.Check(err)
	if answer != args[2] {
		ts.Fatalf("ask %s: the answer is %q", args[0], answer)
	}
}

// udpEndpoint returns where a container's UDP port is published.
func udpEndpoint(ts *testscript.TestScript, name string) (addr string) {
	for _, e := range container(ts, name).Endpoints {
		if at, ok := strings.CutSuffix(e, "/udp"); ok {
			addr = at
		}
	}
	if addr == "" {
		ts.Fatalf("%s has no UDP endpoint", name)
	}
	return addr
}

// askUDP sends a question until an answer comes, or the word that nobody is
// there.
func askUDP(ctx context.Context, conn net.Conn, question string) (string, error) {
	buf := make([]byte, 1<<16)
	for {
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		if _, err := conn.Write([]byte(question)); err != nil {
			return "", err
		}
		_ = conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		n, err := conn.Read(buf)
		if err == nil || !errors.Is(err, os.ErrDeadlineExceeded) {
			return string(buf[:n]), err
		}
	}
}

func fetch(url string) (string, error) {
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", res.Status, body)
	}
	return string(body), err
}

// eventually TEXT COMMAND…: within 15 s, the output of a command contains TEXT
// (with "!", it does not).
func cmdEventually(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: eventually TEXT COMMAND…")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	var out []byte
	for ctx.Err() == nil {
		path := args[1]
		if p := filepath.Join(binDir, path); fileExists(p) {
			path = p
		}
		cmd := exec.CommandContext(ctx, path, args[2:]...)
		cmd.Dir = ts.Getenv("WORK")
		cmd.Env = os.Environ()
		for _, key := range []string{"PATH", "BUDGIE_DATA_DIR", "BUDGIE_BIND", "BUDGIE_INTERFACES", "CONTAINERD_ADDRESS", "CONTAINERD_NAMESPACE"} {
			cmd.Env = append(cmd.Env, key+"="+ts.Getenv(key))
		}
		out, _ = cmd.CombinedOutput()
		if strings.Contains(string(out), args[0]) != neg {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
	ts.Fatalf("eventually %q: the last output was:\n%s", args, out)
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// killcontainer NAME: SIGKILL for the container's first process.
func cmdKillContainer(ts *testscript.TestScript, _ bool, args []string) {
	c := container(ts, args[0])
	if c.PID == 0 {
		ts.Fatalf("%s does not run", args[0])
	}
	ts.Check(syscall.Kill(c.PID, syscall.SIGKILL))
}

// killsupervisor: SIGKILL for the supervisor, whose pid is in its lock file.
func cmdKillSupervisor(ts *testscript.TestScript, _ bool, _ []string) {
	pid, err := supervisorPID(ts.Getenv("BUDGIE_DATA_DIR"))
	ts.Check(err)
	ts.Check(syscall.Kill(pid, syscall.SIGKILL))
	// The kill takes its time, and with it the lock.
	for deadline := time.Now().Add(15 * time.Second); ; {
		out, _ := exec.Command("ps", "-o", "stat=", "-p", strconv.Itoa(pid)).Output()
		// Threads that outlive the first one still hold its files, on Linux.
		threads, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		if stat := strings.TrimSpace(string(out)); stat == "" || strings.HasPrefix(stat, "Z") && len(threads) < 2 {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("the supervisor does not die")
		}
	}
}

func supervisorPID(data string) (int, error) {
	text, err := os.ReadFile(filepath.Join(data, "owners", "supervisor.lock"))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}

// occupy VAR: listens on a free port until the script ends, and puts the port
// into a variable.
func cmdOccupy(ts *testscript.TestScript, _ bool, args []string) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Defer(func() { _ = ln.Close() })
	_, port, _ := strings.Cut(ln.Addr().String(), ":")
	ts.Setenv(args[0], port)
}

// ambiguous VAR: puts an id prefix that fits several of the containers into a
// variable, by running more of them until there is one.
func cmdAmbiguous(ts *testscript.TestScript, _ bool, args []string) {
	seen := make(map[byte]bool)
	for n := range 17 {
		name := fmt.Sprintf("job-%d", n)
		ts.Check(ts.Exec("budgie", "run", "-name", name, args[1]))
		id := container(ts, name).ID
		if seen[id[0]] {
			ts.Setenv(args[0], id[:1])
			return
		}
		seen[id[0]] = true
	}
	ts.Fatalf("17 ids without a common first digit")
}

// exits STATUS COMMAND…: the command ends with this exit status. Its output is
// there for stdout and stderr.
func cmdExits(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	status := 0
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		status = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if want, _ := strconv.Atoi(args[0]); status != want {
		ts.Fatalf("exit status %d, want %d", status, want)
	}
}

// env-replace FILE…: replaces variables in files.
func cmdEnvReplace(ts *testscript.TestScript, _ bool, args []string) {
	for _, name := range args {
		text := os.Expand(ts.ReadFile(name), ts.Getenv)
		ts.Check(os.WriteFile(ts.MkAbs(name), []byte(text), 0o600))
	}
}
