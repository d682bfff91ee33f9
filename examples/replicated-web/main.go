// Command replicated-web shows the whole idea of Budgie on one machine: a
// service from a .bun file runs on a node, which announces it over mDNS on the
// loopback interface; further nodes (clients with data directories of their own,
// and the same token) find it by that alone and join as replicas, which get their
// copy of its volume from the first. One more client balances HTTP over them all.
// Kill any replica's process: it is restarted, and no request that is safe to
// repeat fails. Edit the page in the volume: all replicas show it.
//
// With -runtime containerd, as root, the replicas are containers of an image
// that the example makes of itself.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	_ "embed"

	"golang.org/x/sync/errgroup"

	"github.com/budgiehq/budgie"
	"github.com/budgiehq/budgie/balance"
	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/runtime/containerd"
	"github.com/budgiehq/budgie/runtime/process"
	"github.com/budgiehq/budgie/trust"
)

//go:embed web.bun
var bunText []byte

type settings struct {
	replicas  int
	addr      string
	algorithm string
	runtime   string
	check     bool
}

func main() {
	if len(os.Args) == 3 && os.Args[1] == "serve" {
		serve(os.Args[2])
		return
	}
	var s settings
	flag.IntVar(&s.replicas, "replicas", 3, "number of replicas")
	flag.StringVar(&s.addr, "addr", "127.0.0.1:8080", "address to serve on")
	flag.StringVar(&s.algorithm, "algorithm", "round-robin", "round-robin or least-connections")
	flag.StringVar(&s.runtime, "runtime", process.Name, "process or containerd")
	flag.BoolVar(&s.check, "check", false, "play the scenario: load, kill a replica, see that nothing failed")
	flag.Parse()
	if flag.NArg() > 0 || s.replicas < 1 || s.runtime != process.Name && s.runtime != containerd.Name {
		fmt.Fprintln(os.Stderr, "usage: replicated-web [-replicas 3] [-addr 127.0.0.1:8080] [-algorithm round-robin|least-connections] [-runtime process|containerd] [-check]")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), endSignals()...)
	defer stop()
	if err := run(ctx, s); err != nil {
		fmt.Fprintln(os.Stderr, "replicated-web:", err)
		stop()
		os.Exit(1)
	}
}

// endSignals are the signals that end the example. SIGHUP comes when a terminal
// is closed; nohup(1) ignores it, and so it stays.
func endSignals() []os.Signal {
	signals := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		signals = append(signals, syscall.SIGHUP)
	}
	return signals
}

// cluster is the replicas with their nodes, and the balancer in front of them.
type cluster struct {
	// page is the file in the service's volume that every replica shows; empty
	// where there are no volumes.
	page     string
	nodes    []*node
	balancer *budgie.Client
	frontend balance.Frontend
}

// node is a client with the one replica that it runs.
type node struct {
	client *budgie.Client
	// runtime is nil where the client's own default does.
	runtime *containerd.Runtime
	replica lifecycle.Container
}

func run(ctx context.Context, s settings) (err error) {
	dir, err := os.MkdirTemp("", "replicated-web-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	spec, err := webSpec()
	if err != nil {
		return err
	}
	page, err := addVolume(dir, &spec)
	if err != nil {
		return err
	}
	if s.runtime == containerd.Name {
		remove, err := useImage(ctx, dir, &spec)
		if err != nil {
			return err
		}
		// When no container needs it any more.
		defer func() { err = errors.Join(err, remove()) }()
	}
	c, err := startCluster(ctx, dir, spec, s)
	if err != nil {
		return err
	}
	c.page = page
	defer func() { err = errors.Join(err, c.close()) }()

	url := "http://" + c.frontend.Addr().String()
	fmt.Printf("%d replicas behind %s\n", s.replicas, url)
	if s.check {
		return c.check(ctx, url)
	}
	fmt.Printf("try: curl %s   or kill a replica; Ctrl-C ends it\n", url)
	if page != "" {
		fmt.Printf("edit %s: every replica follows\n", page)
	}
	fmt.Println()
	c.show(ctx)
	return nil
}

// startCluster starts the first replica, then the others side by side, then the
// balancer, and returns when it has found them all.
func startCluster(ctx context.Context, dir string, spec bunfile.Spec, s settings) (_ *cluster, err error) {
	c := &cluster{nodes: make([]*node, s.replicas)}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.close())
		}
	}()
	token := trust.NewToken()
	start := func(i int) (err error) {
		c.nodes[i], err = startNode(ctx, filepath.Join(dir, fmt.Sprintf("node-%d", i+1)), s.runtime, spec, token, i == 0)
		return err
	}
	if err := start(0); err != nil {
		return nil, err
	}
	// The containers live as long as ctx, not only as long as this group.
	var group errgroup.Group
	for i := 1; i < s.replicas; i++ {
		group.Go(func() error { return start(i) })
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	// The balancer knows nothing of the nodes above: it has a data directory
	// of its own and finds them by their announcements.
	c.balancer, err = budgie.New(budgie.WithDataDir(filepath.Join(dir, "balancer")), budgie.WithLoopback(), budgie.WithToken(token))
	if err != nil {
		return nil, err
	}
	c.frontend, err = c.balancer.Balance(ctx, spec.Name, s.addr, budgie.WithAlgorithm(bunfile.Algorithm(s.algorithm)))
	if err != nil {
		return nil, err
	}
	return c, c.awaitReplicas(ctx)
}

// webSpec parses web.bun. Its command is this very program, which the name in
// the file finds because this puts its directory on the PATH.
func webSpec() (bunfile.Spec, error) {
	exe, err := os.Executable()
	if err != nil {
		return bunfile.Spec{}, err
	}
	specs, err := bunfile.Parse("web.bun", bunText)
	if err != nil {
		return bunfile.Spec{}, err
	}
	spec := specs[0]
	// Another run of this example on the same machine is another service.
	spec.Name += fmt.Sprintf("-%d", os.Getpid())
	if filepath.Base(exe) != spec.Image.Command[0] {
		spec.Image.Command[0] = exe // built under another name
	}
	path := filepath.Dir(exe) + string(filepath.ListSeparator) + os.Getenv("PATH")
	return spec, os.Setenv("PATH", path)
}

// startNode starts a node with a replica. Only the first one has the
// specification; the others know the service's name, and the token of the flock.
func startNode(ctx context.Context, dir, runtime string, spec bunfile.Spec, token trust.Token, first bool) (_ *node, err error) {
	n := &node{}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.close())
		}
	}()
	opts := []budgie.Option{budgie.WithDataDir(dir), budgie.WithLoopback(), budgie.WithToken(token)}
	if runtime == containerd.Name {
		if n.runtime, err = containerd.New(containerd.WithDataDir(filepath.Join(dir, runtime))); err != nil {
			return nil, err
		}
		opts = append(opts, budgie.WithRuntime(n.runtime))
	}
	if n.client, err = budgie.New(opts...); err != nil {
		return nil, err
	}
	// A container is not only in the data directory, and goes when it ends.
	if first {
		n.replica, err = n.client.Run(ctx, spec, budgie.AutoRemove())
	} else {
		n.replica, err = n.client.Join(ctx, spec.Name, budgie.AutoRemove(), budgie.AllowProcess(), budgie.OnRuntime(runtime))
	}
	return n, err
}

// close ends the replica, then what it ran on.
func (n *node) close() error {
	var err error
	if n.client != nil {
		err = n.client.Close()
	}
	if n.runtime != nil {
		err = errors.Join(err, n.runtime.Close())
	}
	return err
}

// awaitReplicas returns when the balancer has found every replica.
func (c *cluster) awaitReplicas(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for c.found() < len(c.nodes) {
		select {
		case <-ctx.Done():
			return fmt.Errorf("the balancer found %d of %d replicas by mDNS on the loopback interface: %w", c.found(), len(c.nodes), ctx.Err())
		case <-tick.C:
		}
	}
	return nil
}

// found returns how many replicas the balancer has found.
func (c *cluster) found() int { return len(c.frontend.Status()) }

// close ends the balancer, then the replicas side by side.
func (c *cluster) close() error {
	var group errgroup.Group
	if c.balancer != nil {
		group.Go(c.balancer.Close)
	}
	err := group.Wait()
	for _, n := range c.nodes {
		if n != nil {
			group.Go(n.close)
		}
	}
	return errors.Join(err, group.Wait())
}
