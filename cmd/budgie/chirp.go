package main

import (
	"context"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/budgiehq/budgie"
	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/discovery"
)

func chirpCommand() *command {
	c := &command{
		name:    "chirp",
		args:    "[-timeout 2s] [-format table|json]",
		summary: "List the containers that are announced on the network.",
		example: "budgie chirp -timeout 5s",
	}
	c.run = func(ctx context.Context, a *app, args []string) error {
		fs := c.flags()
		timeout := fs.Duration("timeout", 2*time.Second, "how long to listen")
		format := fs.String("format", "table", "`format` of the list: table, json")
		rest, err := c.parse(a, fs, args)
		if err != nil {
			return err
		}
		if *format != "table" && *format != "json" {
			return c.usagef("-format is table or json, not %q", *format)
		}
		if *timeout <= 0 {
			return c.usagef("-timeout is a time above 0s, not %s", *timeout)
		}
		return a.withClient(func(client *budgie.Client) error {
			if len(rest) > 0 {
				_, err := client.Join(ctx, rest[0])
				return err
			}
			services, err := listen(ctx, client, *timeout)
			if err != nil {
				return err
			}
			if *format == "json" {
				return printJSON(a.stdout, services, serviceJSONOf)
			}
			a.printServices(services)
			return nil
		})
	}
	return c
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

func (a *app) printServices(services []discovery.Service) {
	t := table{header: []string{"ID", "NAME", "ADDRESS", "PORTS", "IMAGE", "NODE"}}
	for _, s := range services {
		addr := "-"
		if len(s.Addrs) > 0 {
			addr = s.Addrs[0].String()
		}
		var ports []string
		for _, p := range s.Ports {
			ports = append(ports, portWord(p))
		}
		image := s.Image
		if image == "" {
			image = "-"
		}
		t.add(s.ID[:min(12, len(s.ID))], shorten(s.Name, 14), addr, shorten(strings.Join(ports, ","), 12), shorten(image, 14), shorten(s.Node, 8))
	}
	t.write(a.stdout, a.colour)
}

func portWord(p discovery.Port) string {
	if p.Protocol == bunfile.UDP {
		return strconv.Itoa(p.HostPort) + "/udp"
	}
	return strconv.Itoa(p.HostPort)
}

// serviceJSON is the JSON form of an announced service. Its names are an
// interface: scripts rely on them.
type serviceJSON struct {
	ID        string     `json:"id"`
	Name      string     `json:"name"`
	ServiceID string     `json:"service_id"`
	Image     string     `json:"image"`
	Node      string     `json:"node"`
	Addresses []string   `json:"addresses"`
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
		ID: s.ID, Name: s.Name, ServiceID: s.ServiceID, Image: s.Image, Node: s.Node,
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
