package mdns

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/budgiehq/budgie/internal/lan"
)

// roles are what the tests in the laboratory run in its hosts.
func roles() lan.Roles { return lan.Roles{"node": node} }

// node announces replicas and prints the events of a browser, one per line:
// type, name, id, peer port and addresses. At its end it prints its counts.
func node(ctx context.Context, args []string) (err error) {
	flags := flag.NewFlagSet("node", flag.ContinueOnError)
	first := flags.Int("first", 1, "number of the first replica")
	count := flags.Int("count", 1, "how many replicas to announce")
	name := flags.String("name", "web", "name of the replicas")
	tail := flags.String("tail", "0", "hexadecimal digit that the ids end in, over and over")
	total := flags.Int("total", 0, "how many services to say are there when they are")
	iface := flags.String("interface", "", "the only interface to use")
	debug := flags.Bool("debug", false, "log")
	if err := flags.Parse(args); err != nil {
		return err
	}
	var opts []Option
	if *iface != "" {
		opts = append(opts, WithInterfaces(*iface))
	}
	if *debug {
		opts = append(opts, WithLogger(slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{Level: slog.LevelDebug}))))
	}
	d, err := New(opts...)
	if err != nil {
		return err
	}
	defer func() {
		if e := d.Close(); err == nil {
			err = e
		}
		fmt.Printf("stats %+v\n", d.Stats())
	}()
	l, err := net.Listen("tcp", ":7946")
	if err == nil { // else another node of the host has it
		defer l.Close()
	}
	begun := time.Now()
	events, err := d.Browse(ctx)
	if err != nil {
		return err
	}
	for i := range *count {
		svc := alike(*tail)
		svc.ID = replica(*first+i, "").ID[:shortID] + svc.ID[shortID:]
		svc.Name = *name
		if err := d.Announce(ctx, svc); err != nil {
			return err
		}
	}
	fmt.Println("ready")
	there := make(map[string]bool)
	for e := range events {
		there[e.Service.ID] = e.Type.String() != "removed"
		fmt.Println(e.Type, e.Service.Name, e.Service.ID, e.Service.PeerPort, e.Service.Addrs)
		if len(there) == *total {
			fmt.Println("total after", time.Since(begun))
		}
	}
	return nil
}
