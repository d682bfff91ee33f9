package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"time"

	"github.com/budgiehq/budgie"
	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/discovery"
)

func chirpCommand() *command {
	c := &command{
		name: "chirp",
		args: "[-peer host:port]… [-timeout 2s] [-format table|json]\n" +
			"[-peer host:port]… [-d] [-name N] [-runtime auto|process|containerd] [-rm] [-allow-process] [-dry-run] [-ready-timeout 1m] [-weight 1] [-sync-rate 10MiB] [-verify] ID|NAME\n" +
			"[-peer host:port]… -balance ADDR [-algorithm round-robin] [-hash header|cookie=NAME] [-mode http|tcp|udp] [-protocol auto|h2c] [-access-log text|json] [-slow-start 0s] [-take-over] ID|NAME\n" +
			"-promote [-force] ID|NAME",
		summary: "List what is announced on the network, join it, or serve a port with its replicas.\nJoining runs another replica here: its specification and image come from the\nnodes that run it, if they prove to be in this machine's flock (budgie token -h).\nIts volumes are copied before it starts, and then follow what their owner writes:\nthe node that the service began on, or one whose replica was promoted since.",
		example: "budgie chirp -timeout 5s   # who is there?\nbudgie chirp -d web        # run a replica of web, and print its id\nbudgie chirp -balance :80 web\nbudgie chirp -promote web  # the owner is gone for good: own its volumes here",
	}
	c.run = func(ctx context.Context, a *app, args []string) error {
		fs := c.flags()
		timeout := secondsFlag(fs, "timeout", "list: how long to listen (a `time`; default 2s)")
		format := fs.String("format", "table", "list: `format`, table or json")
		var peers []string
		fs.Func("peer", "`host:port` of a node to ask, besides those that are announced; may be repeated", func(addr string) error {
			peers = append(peers, addr)
			return nil
		})
		j := newJoinFlags(fs)
		b := newBalanceFlags(fs)
		promote := fs.Bool("promote", false, "make this machine's replica the owner of its volumes, whom the others follow")
		force := fs.Bool("force", false, "promote: also where the owner answers, or the copy is not whole")
		rest, err := c.parse(a, fs, args)
		if err != nil {
			return err
		}
		if *format != "table" && *format != "json" {
			return c.usagef("-format is table or json, not %q", *format)
		}
		if timeout.set && timeout.value <= 0 {
			return c.usagef("-timeout is a time above 0s, not %s", timeout)
		}
		if *promote {
			return c.promote(ctx, a, fs, *force, rest)
		}
		if *force {
			return c.usagef("-force goes with -promote")
		}
		if b.addr != "" {
			return c.balance(ctx, a, fs, b, peers, rest)
		}
		if name := firstSet(fs, balanceFlagNames...); name != "" {
			return c.usagef("-%s goes with -balance", name)
		}
		if len(rest) > 0 {
			return c.join(ctx, a, fs, j, peers, rest)
		}
		if name := firstSet(fs, joinFlagNames...); name != "" {
			return c.usagef("-%s is for joining: which ID or NAME?", name)
		}
		return a.withClient(slog.LevelWarn, func(client *budgie.Client) error {
			return a.listServices(ctx, client, timeout.or(2*time.Second), *format)
		}, budgie.WithPeers(peers...))
	}
	return c
}

// listServices prints what is announced within a time.
func (a *app) listServices(ctx context.Context, client *budgie.Client, timeout time.Duration, format string) error {
	services, err := listen(ctx, client, timeout)
	if err != nil {
		return err
	}
	for _, p := range client.PeerProblems() {
		if p.Err == nil { // else there is a warning
			fmt.Fprintf(a.stderr, "budgie: %s\n", p)
		}
	}
	if format == "json" {
		return printJSON(a.stdout, services, serviceJSONOf)
	}
	own := ""
	if len(services) > 0 { // else there is no need of a token
		if tok, err := client.Token(ctx); err == nil {
			own = tok.FlockID()
		}
	}
	a.printServices(services, own)
	return nil
}

// listen returns what is announced within a time.
func listen(ctx context.Context, client *budgie.Client, timeout time.Duration) ([]discovery.Service, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	events, err := client.Discover(ctx)
	if err != nil {
		return nil, err
	}
	return discovery.Collect(ctx, events), nil
}

// printServices lists services, and marks those that are not of the own flock. An
// empty one is not known.
func (a *app) printServices(services []discovery.Service, own string) {
	foreign := false
	t := table{header: []string{"ID", "NAME", "ADDRESS", "PORTS", "IMAGE", "NODE"}}
	for _, s := range services {
		addr := "-"
		if len(s.Addrs) > 0 {
			addr = s.Addrs[0].String()
		}
		image := s.Image
		if image == "" {
			image = "-"
		}
		node := shorten(s.Node, 8)
		if own != "" && s.Flock != own {
			foreign = true
			node += "*"
		}
		t.add(s.ID[:min(12, len(s.ID))], shorten(s.Name, 14), addr, portsWord(s.Ports), shorten(image, 14), node)
	}
	t.write(a.stdout, a.colour)
	if foreign {
		fmt.Fprintln(a.stderr, "* announced by another flock, or none: to be joined from there, this machine needs that token (budgie token set).")
	}
}

// portsWord shows the first port, and how many more there are.
func portsWord(ports []discovery.Port) string {
	if len(ports) == 0 {
		return "-"
	}
	word := strconv.Itoa(ports[0].HostPort)
	if ports[0].Protocol == bunfile.UDP {
		word += "/udp"
	}
	if more := len(ports) - 1; more > 0 {
		word += fmt.Sprintf(" +%d", more)
	}
	return word
}

// serviceJSON is the JSON form of an announced service. Its names are an
// interface: scripts rely on them.
type serviceJSON struct {
	ID        string     `json:"id"`
	Name      string     `json:"name"`
	ServiceID string     `json:"service_id"`
	Image     string     `json:"image"`
	Node      string     `json:"node"`
	Flock     string     `json:"flock"`
	Addresses []string   `json:"addresses"`
	PeerPort  int        `json:"peer_port"`
	Ports     []portJSON `json:"ports"`
	Endpoints []string   `json:"endpoints"`
}

type portJSON struct {
	ContainerPort int    `json:"container_port"`
	HostPort      int    `json:"host_port"`
	Protocol      string `json:"protocol"`
	HTTP          bool   `json:"http"`
}

func serviceJSONOf(s discovery.Service) serviceJSON {
	j := serviceJSON{
		ID: s.ID, Name: s.Name, ServiceID: s.ServiceID, Image: s.Image, Node: s.Node, Flock: s.Flock, PeerPort: s.PeerPort,
		Addresses: []string{}, Ports: []portJSON{}, Endpoints: []string{},
	}
	for _, addr := range s.Addrs {
		j.Addresses = append(j.Addresses, addr.String())
	}
	for _, p := range s.Ports {
		j.Ports = append(j.Ports, portJSON{p.ContainerPort, p.HostPort, string(p.Protocol), p.HTTP})
		for _, addr := range j.Addresses {
			j.Endpoints = append(j.Endpoints, net.JoinHostPort(addr, strconv.Itoa(p.HostPort)))
		}
	}
	return j
}
