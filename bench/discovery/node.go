//go:build linux

package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/discovery"
	"github.com/budgiehq/budgie/discovery/mdns"
)

// idOf is the id of replica number n.
func idOf(n int) string { return fmt.Sprintf("%012x", n) + strings.Repeat("0", 52) }

// replica is replica number n, as large as a usual announcement.
func replica(n int) discovery.Service {
	return discovery.Service{
		ID: idOf(n), ServiceID: strings.Repeat("5", 32), Name: "web", Image: "docker.io/library/nginx:1.29",
		Node: strings.Repeat("0", 64), Flock: strings.Repeat("f", 32), PeerPort: 18733,
		Ports: []discovery.Port{{ContainerPort: 80, HostPort: 8080, Protocol: bunfile.TCP, HTTP: true}},
	}
}

// now is a moment as nodes print it. All of them have one clock.
func now() int64 { return time.Now().UnixNano() }

// node is a host's supervisor, as far as discovery goes. It prints the events of
// a browser, with their times, and does what its standard input says: "announce
// 7", "withdraw 7". Its arguments are how many services to wait for, which it
// says when they are there, and what it announces from the beginning.
func node(ctx context.Context, args []string) error {
	var total, first, count int
	if _, err := fmt.Sscan(strings.Join(args, " "), &total, &first, &count); err != nil {
		return err
	}
	d, err := mdns.New()
	if err != nil {
		return err
	}
	defer d.Close()
	begun := now()
	events, err := d.Browse(ctx)
	if err != nil {
		return err
	}
	for n := range count {
		if err := d.Announce(ctx, replica(first+n)); err != nil {
			return err
		}
	}
	fmt.Println("ready")
	go obey(ctx, d)
	there := make(map[string]bool)
	for e := range events {
		fmt.Println(now(), e.Type, e.Service.ID, e.Service.Addrs)
		if there[e.Service.ID] = true; len(there) == total {
			fmt.Println("total", now()-begun)
		}
	}
	return nil
}

// obey does what standard input says, until its end.
func obey(ctx context.Context, d *mdns.Discoverer) {
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		var verb string
		var n int
		_, err := fmt.Sscan(lines.Text(), &verb, &n)
		begun := now()
		switch {
		case err != nil:
		case verb == "announce":
			err = d.Announce(ctx, replica(n))
		default:
			err = d.Withdraw(ctx, idOf(n))
		}
		if err != nil {
			fmt.Println("failed:", lines.Text(), err)
			continue
		}
		fmt.Println("did", verb, n, begun)
	}
}
