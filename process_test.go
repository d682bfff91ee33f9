//go:build unix

package budgie_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/budgiehq/budgie"
	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/discovery"
	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/runtime"
	"github.com/budgiehq/budgie/trust"
)

// program is what the test binary does as a container or as a supervisor.
func program(args []string) {
	switch args[0] {
	case "serve":
		fmt.Println("serving")
		handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, os.Getpid()) })
		ln, err := net.Listen("tcp", "127.0.0.1:"+os.Getenv("PORT"))
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		server := http.Server{Handler: handler}
		stop := make(chan os.Signal, 1)
		signal.Notify(stop, syscall.SIGTERM)
		go func() { _ = server.Serve(ln) }()
		<-stop
		fmt.Println("stopping")
	case "echo":
		// It tells each datagram's sender who answers.
		conn, err := net.ListenPacket("udp", "127.0.0.1:"+os.Getenv("BUDGIE_PORT_53"))
		for buf := make([]byte, 1<<10); err == nil; {
			var n int
			var from net.Addr
			if n, from, err = conn.ReadFrom(buf); err == nil {
				_, err = fmt.Fprintf(answerTo{conn, from}, "%d: %s", os.Getpid(), buf[:n])
			}
		}
		fmt.Println(err)
		os.Exit(1)
	case "embed":
		// An embedding program that never closes its client.
		c, err := budgie.New(budgie.WithDataDir(args[1]), budgie.WithLoopback(), budgie.WithoutDiscovery())
		if err == nil {
			var rec lifecycle.Container
			if rec, err = c.Run(signalContext(), server("orphan")); err == nil {
				fmt.Println(rec.PID)
				select {}
			}
		}
		fmt.Println(err)
		os.Exit(1)
	case "supervise":
		c, err := budgie.New(budgie.WithLoopback(), budgie.WithoutDiscovery())
		if err == nil {
			err = errors.Join(c.Supervise(signalContext()), c.Close())
		}
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
}

// answerTo sends what is written to it, as one datagram.
type answerTo struct {
	net.PacketConn
	to net.Addr
}

func (a answerTo) Write(b []byte) (int, error) { return a.WriteTo(b, a.to) }

// server is a container that runs this test binary as a web server.
func server(name string) bunfile.Spec {
	exe, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return bunfile.Spec{
		Version:     bunfile.Version,
		Name:        name,
		Image:       bunfile.Image{Command: []string{exe, programSwitch, "serve"}},
		Ports:       []bunfile.Port{{ContainerPort: 80}},
		Healthcheck: &bunfile.Healthcheck{Path: "/"},
	}
}

// E1: a container in a Go program takes a few lines and nothing installed.
func TestCaseE1DefaultsRunAProcess(t *testing.T) {
	c := newClient(t)
	rec, err := c.Run(t.Context(), server("web"))
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.TrimSpace(fetch(t, rec.URL())); got != strconv.Itoa(rec.PID) {
		t.Errorf("answered by pid %s, want %d", got, rec.PID)
	}
	if err := c.Stop(t.Context(), "web"); err != nil {
		t.Fatal(err)
	}
	var lines []string
	for e, err := range c.Logs(t.Context(), "web", runtime.LogOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, e.Line)
	}
	if strings.Join(lines, ",") != "serving,stopping" {
		t.Errorf("log %q", lines)
	}
}

func TestFiftyParallelProcesses(t *testing.T) {
	const n = 50
	c := newClient(t, budgie.WithoutDiscovery())
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { _, errs[i] = c.Run(t.Context(), server(fmt.Sprintf("web-%d", i))) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// A UDP port of a process is a free one of its own; what clients write to is the
// proxy's, which a restart does not close.
func TestUDPPortOfAProcess(t *testing.T) {
	c := newClient(t)
	spec := always(server("dns"))
	spec.Image.Command[2], spec.Healthcheck = "echo", nil
	spec.Ports = []bunfile.Port{{ContainerPort: 53, Protocol: bunfile.UDP}}
	rec, err := c.Run(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	conn := dialUDP(t, udpEndpoint(t, rec).String())
	if got, want := ask(t, conn, "who?"), fmt.Sprintf("%d: who?", rec.PID); got != want {
		t.Errorf("the answer is %q, want %q", got, want)
	}
	if err := syscall.Kill(rec.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	again := eventually(t, c, "dns", "the second run", func(r lifecycle.Container) bool { return r.Restarts == 1 && r.Ready })
	if got, want := ask(t, conn, "and now?"), fmt.Sprintf("%d: and now?", again.PID); got != want {
		t.Errorf("the answer is %q, want %q", got, want)
	}
	if !slices.Equal(again.Endpoints, rec.Endpoints) {
		t.Errorf("endpoints %+v, then %+v", rec.Endpoints, again.Endpoints)
	}
}

func TestAKilledProcessComesBackOnItsPort(t *testing.T) {
	c := newClient(t)
	var mu sync.Mutex
	var log []string
	rec, err := c.Run(t.Context(), always(server("web")), budgie.OnLog(func(_ lifecycle.Container, e runtime.LogEntry) {
		mu.Lock()
		defer mu.Unlock()
		log = append(log, e.Line)
	}))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(rec.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	again := eventually(t, c, "web", "the second run", func(r lifecycle.Container) bool { return r.Restarts == 1 && r.Ready })
	if again.PID == rec.PID || again.URL() != rec.URL() {
		t.Errorf("pid %d, then %d; url %s, then %s", rec.PID, again.PID, rec.URL(), again.URL())
	}
	fetch(t, rec.URL())
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if got := strings.Join(log, ","); got != "serving,serving,stopping" {
		t.Errorf("OnLog got %q", got)
	}
}

// E2: the parent is killed; the next start in the same data directory ends
// what it left, without any helper process.
func TestCaseE2ParentKilledNextStartReaps(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	parent := exec.Command(exe, programSwitch, "embed", dir)
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Fscan(out, &pid); err != nil {
		t.Fatal(err)
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait()
	if !runs(t, pid) {
		t.Fatal("the container died with its parent, so there is nothing to reap")
	}

	c := newClient(t, budgie.WithDataDir(dir), budgie.WithoutDiscovery())
	rec, err := c.Get(t.Context(), "orphan")
	if err != nil || !rec.Unsupervised || rec.State != lifecycle.Running {
		t.Fatalf("before: %+v, %v", rec, err)
	}
	if _, err := c.Run(t.Context(), server("next")); err != nil {
		t.Fatal(err)
	}
	if rec, err = c.Get(t.Context(), "orphan"); err != nil || !rec.Finished() {
		t.Fatalf("after: %+v, %v", rec, err)
	}
	if runs(t, pid) {
		t.Errorf("process %d is still there", pid)
	}
}

// detachedClient returns a client that starts supervisors in processes of
// their own.
func detachedClient(t *testing.T, dir string) *budgie.Client {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// A supervisor ends after its last container. It is waited for, so that the
	// goroutine that collects it is gone when leaks are looked for.
	t.Cleanup(func() {
		lock := filepath.Join(dir, "owners", "supervisor.lock")
		for deadline := time.Now().Add(20 * time.Second); ; {
			if _, err := os.Stat(lock); err != nil {
				return
			}
			if time.Now().After(deadline) {
				t.Error("the supervisor does not end")
				return
			}
		}
	})
	return newClient(t, budgie.WithDataDir(dir), budgie.WithoutDiscovery(),
		budgie.WithSupervisorCommand(exe, programSwitch, "supervise"))
}

func TestDetachedOutlivesItsClient(t *testing.T) {
	dir := t.TempDir()
	c := detachedClient(t, dir)
	ctx := t.Context()
	rec, err := c.Run(ctx, always(server("web")), budgie.Detached())
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	fetch(t, rec.URL())

	c = detachedClient(t, dir)
	if got, err := c.Get(ctx, "web"); err != nil || got.Unsupervised || got.PID != rec.PID {
		t.Fatalf("%+v, %v", got, err)
	}
	if err := c.Remove(ctx, "web", budgie.Force()); err != nil {
		t.Fatal(err)
	}
	if runs(t, rec.PID) {
		t.Errorf("process %d is still there", rec.PID)
	}
}

// Many detached runs at once share one supervisor.
func TestDetachedRunsShareOneSupervisor(t *testing.T) {
	const n = 8
	dir := t.TempDir()
	var wg sync.WaitGroup
	errs := make([]error, n)
	for i := range n {
		c := detachedClient(t, dir)
		wg.Go(func() { _, errs[i] = c.Run(t.Context(), server(fmt.Sprintf("web-%d", i)), budgie.Detached()) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	c := detachedClient(t, dir)
	parents := make(map[string]bool)
	recs, err := c.List(t.Context())
	if err != nil || len(recs) != n {
		t.Fatalf("%d containers, %v", len(recs), err)
	}
	for _, rec := range recs {
		parents[parentOf(t, rec.PID)] = true
		if err := c.Stop(t.Context(), rec.ID); err != nil {
			t.Error(err)
		}
	}
	if len(parents) != 1 {
		t.Errorf("%d supervisors", len(parents))
	}
}

func TestDetachedThatFails(t *testing.T) {
	c := detachedClient(t, t.TempDir())
	spec := server("web")
	spec.Image.Command = []string{"sh", "-c", "echo no good; exit 3"}
	_, err := c.Run(t.Context(), spec, budgie.Detached())
	notReady, ok := errors.AsType[*budgie.NotReadyError](err)
	if !ok || notReady.Reason != "it exited with status 3" || strings.Join(notReady.Log, "") != "no good" {
		t.Fatalf("got %v", err)
	}
	if rec, err := c.Get(t.Context(), "web"); err != nil || !rec.Finished() {
		t.Errorf("afterwards %+v, %v", rec, err)
	}
}

func TestDetachedNeedsASupervisor(t *testing.T) {
	c := newClient(t, budgie.WithoutDiscovery())
	if _, err := c.Run(t.Context(), server("web"), budgie.Detached()); !errors.Is(err, budgie.ErrNoSupervisor) {
		t.Fatalf("got %v", err)
	}
	if rec, err := c.Get(t.Context(), "web"); err != nil || !rec.Finished() {
		t.Errorf("afterwards %+v, %v", rec, err)
	}
	c = newClient(t, budgie.WithoutDiscovery(), budgie.WithSupervisorCommand("sh", "-c", "echo no supervisor today; exit 1"))
	_, err := c.Run(t.Context(), server("web"), budgie.Detached())
	if err == nil || !strings.Contains(err.Error(), "no supervisor today") {
		t.Fatalf("got %v", err)
	}
}

// A supervisor that a client starts is in the flock that the client was told
// of.
func TestSupervisorGetsTheToken(t *testing.T) {
	tok := trust.NewToken()
	c := newClient(t, budgie.WithoutDiscovery(), budgie.WithToken(tok),
		budgie.WithSupervisorCommand("sh", "-c", `echo "$BUDGIE_TOKEN" >"$BUDGIE_DATA_DIR/told"; exit 1`))
	if _, err := c.Run(t.Context(), server("web"), budgie.Detached()); err == nil {
		t.Fatal("it has a supervisor")
	}
	text, err := os.ReadFile(filepath.Join(c.DataDir(), "told"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := trust.ParseToken(string(text)); err != nil || !got.Equal(tok) {
		t.Errorf("it was told another token: %v", err)
	}
}

// One client's containers are found by another through mDNS alone.
func TestDiscoverOverMDNS(t *testing.T) {
	a, b := newClient(t), newClient(t)
	events, err := b.Discover(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	rec, err := a.Run(t.Context(), server("mdns-test"))
	if err != nil {
		t.Fatal(err)
	}
	next := func(want discovery.EventType) discovery.Service {
		t.Helper()
		deadline := time.After(10 * time.Second)
		for {
			select {
			case ev := <-events:
				if ev.Service.ID == rec.ID && ev.Type == want {
					return ev.Service
				}
			case <-deadline:
				t.Fatalf("%s never came", want)
			}
		}
	}
	svc := next(discovery.Added)
	if svc.Name != "mdns-test" || len(svc.Ports) != 1 || svc.Ports[0].HostPort != rec.Endpoints[0].Port || len(svc.Addrs) == 0 {
		t.Errorf("announced %+v", svc)
	}
	self, err := trust.Open(a.DataDir())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = self.Close() }()
	if tok, err := self.Token(); err != nil || svc.Node != self.NodeID() || svc.Flock != tok.FlockID() {
		t.Errorf("announced by node %s of flock %s, which is %s of %s, %v", svc.Node, svc.Flock, self.NodeID(), tok.FlockID(), err)
	}
	if err := a.Stop(t.Context(), rec.ID); err != nil {
		t.Fatal(err)
	}
	next(discovery.Removed)
}

func signalContext() context.Context {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx
}

// psField returns what ps says of a process, an empty string where there is
// none.
func psField(t *testing.T, pid int, field string) string {
	t.Helper()
	out, err := exec.Command("ps", "-o", field+"=", "-p", strconv.Itoa(pid)).Output()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// parentOf returns the pid of a process's parent.
func parentOf(t *testing.T, pid int) string { return psField(t, pid, "ppid") }

// runs reports whether a process runs. One that has ended may stay listed as a
// zombie where the machine's first process does not collect orphans.
func runs(t *testing.T, pid int) bool {
	stat := psField(t, pid, "stat")
	return stat != "" && !strings.HasPrefix(stat, "Z")
}

// Somebody removes the data directory: what it held is ended, and the
// supervisor ends.
func TestRemovedDataDirectoryEndsEverything(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	c := detachedClient(t, dir)
	rec, err := c.Run(t.Context(), always(server("web")), budgie.Detached())
	if err != nil {
		t.Fatal(err)
	}
	supervisor, err := strconv.Atoi(parentOf(t, rec.PID))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); runs(t, rec.PID) || runs(t, supervisor); {
		if time.Now().After(deadline) {
			t.Fatalf("container runs: %v, supervisor runs: %v", runs(t, rec.PID), runs(t, supervisor))
		}
	}
}
