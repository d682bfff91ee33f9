package mdns

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/budgiehq/budgie/discovery"
)

// childEnv makes the test binary a process that announces one service until its
// standard input ends. The value is the number of the replica and the TTL.
const childEnv = "BUDGIE_MDNS_TEST_CHILD"

// childMain is the child's main function. It returns false in the parent.
func childMain() bool {
	spec := os.Getenv(childEnv)
	if spec == "" {
		return false
	}
	if err := child(spec); err != nil {
		fmt.Fprintln(os.Stderr, "child:", err)
		os.Exit(1)
	}
	return true
}

func child(spec string) error {
	var n int
	var life, name string
	if _, err := fmt.Sscan(spec, &n, &life, &name); err != nil {
		return err
	}
	ttl, err := time.ParseDuration(life)
	if err != nil {
		return err
	}
	d, err := New(WithInterfaces(name), WithTTL(ttl))
	if err != nil {
		return err
	}
	defer d.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if err := d.Announce(ctx, replica(n, "child")); err != nil {
		return err
	}
	events, err := d.Browse(ctx)
	if err != nil {
		return err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for e := range events {
			fmt.Println(e.Type, e.Service.ID)
		}
	}()
	io.Copy(io.Discard, os.Stdin)
	cancel()
	<-done
	return nil
}

// process is a running child.
type process struct {
	cmd   *exec.Cmd
	stdin io.Closer
	lines *bufio.Scanner
}

func startChild(t *testing.T, n int, ttl time.Duration) *process {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+strconv.Itoa(n)+" "+ttl.String()+" "+loopback(t).Name)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		cmd.Wait()
	})
	return &process{cmd, stdin, bufio.NewScanner(stdout)}
}

// reports waits until the child prints an event.
func (p *process) reports(t *testing.T, typ discovery.EventType, id string) {
	t.Helper()
	for p.lines.Scan() {
		if p.lines.Text() == typ.String()+" "+id {
			return
		}
	}
	t.Fatalf("the child ended without reporting %v %.12s: %v", typ, id, p.lines.Err())
}

// await returns when the channel brings an event of an id.
func await(t *testing.T, events <-chan discovery.Event, typ discovery.EventType, id string) discovery.Event {
	t.Helper()
	timeout := time.NewTimer(15 * time.Second)
	defer timeout.Stop()
	for {
		select {
		case e, ok := <-events:
			if !ok {
				t.Fatalf("the channel was closed before %v of %.12s", typ, id)
			}
			if e.Service.ID == id && e.Type == typ {
				return e
			}
		case <-timeout.C:
			t.Fatalf("no %v of %.12s", typ, id)
		}
	}
}

// unique makes the replicas of concurrent runs of these tests different.
func unique(n int) int { return os.Getpid()*16 + n }

func TestProcessesSeeEachOther(t *testing.T) {
	d := open(t)
	events, err := d.Browse(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	one := startChild(t, unique(1), DefaultTTL)
	two := startChild(t, unique(2), DefaultTTL)
	idOne, idTwo := replica(unique(1), "").ID, replica(unique(2), "").ID
	if e := await(t, events, discovery.Added, idOne); e.Service.PeerPort != 7946 || len(e.Service.Addrs) != 1 || !e.Service.Addrs[0].IsLoopback() {
		t.Errorf("the child announced %+v", e.Service)
	}
	two.reports(t, discovery.Added, idOne)
	one.reports(t, discovery.Added, idTwo)

	// The requirement bounds both: arrival in well under a second, departure in
	// well under two.
	mine := replica(unique(3), "mine")
	start := time.Now()
	announce(t, d, mine)
	one.reports(t, discovery.Added, mine.ID)
	if d := time.Since(start); d > time.Second {
		t.Errorf("arrival took %v", d)
	}
	start = time.Now()
	if err := d.Withdraw(t.Context(), mine.ID); err != nil {
		t.Fatal(err)
	}
	one.reports(t, discovery.Removed, mine.ID)
	if d := time.Since(start); d > 2*time.Second {
		t.Errorf("departure took %v", d)
	}

	// A process that ends cleanly says goodbye.
	one.stdin.Close()
	await(t, events, discovery.Removed, idOne)
	two.reports(t, discovery.Removed, idOne)
}

func TestKilledProcessExpires(t *testing.T) {
	t.Parallel()
	d := open(t)
	events, err := d.Browse(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p := startChild(t, unique(4), 2*time.Second)
	id := replica(unique(4), "").ID
	await(t, events, discovery.Added, id)
	p.reports(t, discovery.Added, id)
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	await(t, events, discovery.Removed, id)
}
