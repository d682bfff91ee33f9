package mdns

import (
	"context"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/budgiehq/budgie/discovery"
	pionlog "github.com/pion/logging"
	pion "github.com/pion/mdns/v2"
	"golang.org/x/net/ipv4"
)

// pionServer returns a pion responder and browser on loopback.
func pionServer(t *testing.T, opts ...pion.ServerOption) *pion.Conn {
	t.Helper()
	pc, err := bind("udp4", netip.AddrPortFrom(group4(), mdnsPort))
	if err != nil {
		t.Fatal(err)
	}
	log := pionlog.NewDefaultLoggerFactory()
	log.Writer = io.Discard
	opts = append([]pion.ServerOption{
		pion.WithIncludeLoopback(true), pion.WithInterfaces(loopback(t)), pion.WithLoggerFactory(log),
		pion.WithLocalAddress(net.IPv4(127, 0, 0, 1)), pion.WithQueryInterval(100 * time.Millisecond),
	}, opts...)
	c, err := pion.NewServer(ipv4.NewPacketConn(pc), nil, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// pionService is a service of ours as pion would announce it.
func pionService(t *testing.T, svc discovery.Service) pion.ServiceInstance {
	t.Helper()
	txt, err := discovery.EncodeTXT(svc)
	if err != nil {
		t.Fatal(err)
	}
	label := svc.Name + "-" + svc.ID[:shortID]
	s := pion.ServiceInstance{
		Instance: label, Service: "_budgie._tcp", Domain: "local", Host: "pion-" + svc.ID[:shortID] + ".local.",
		Port: uint16(svc.PeerPort),
	}
	for _, kv := range txt {
		for i := range kv {
			if kv[i] == '=' {
				s.Text = append(s.Text, pion.NewTXTString(kv[:i], kv[i+1:]))
				break
			}
		}
	}
	return s
}

func TestPionFindsUs(t *testing.T) {
	d := open(t)
	svc := replica(unique(12), "ours")
	announce(t, d, svc)
	found := make(chan pion.ServiceEvent, 64)
	c := pionServer(t)
	c.OnServiceDiscovered(func(e pion.ServiceEvent) {
		select {
		case found <- e:
		default:
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if err := c.Browse(ctx, "_budgie._tcp"); err != nil {
		t.Fatal(err)
	}
	timeout := time.After(10 * time.Second)
	for {
		select {
		case e := <-found:
			if e.Instance.Instance+"."+serviceName != instanceName(svc) {
				continue
			}
			if int(e.Instance.Port) != svc.PeerPort || e.Addr.String() != "127.0.0.1" {
				t.Errorf("pion found %+v at %v", e.Instance, e.Addr)
			}
			return
		case <-timeout:
			t.Fatal("pion did not find the service")
		}
	}
}

func TestWeFindPion(t *testing.T) {
	svc := replica(unique(13), "theirs")
	inst := pionService(t, svc)
	pionServer(t, pion.WithLocalNames(inst.Host), pion.WithService(inst))
	d := open(t)
	events, err := d.Browse(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	e := await(t, events, discovery.Added, svc.ID)
	if e.Service.PeerPort != svc.PeerPort || len(e.Service.Addrs) != 1 || !e.Service.Addrs[0].IsLoopback() {
		t.Errorf("found %+v", e.Service)
	}
}

// The gaps for which this package does not use pion. If this test fails after
// an update of pion, look at the package documentation again.
func TestGapsOfPion(t *testing.T) {
	svc := replica(unique(14), "gaps")
	inst := pionService(t, svc)
	wire := newTap(t, true)
	c := pionServer(t, pion.WithLocalNames(inst.Host))
	marker := replica(unique(15), "marker")
	// Neither Register nor Unregister nor Close say anything: the next packet
	// is the one of this test.
	if err := c.Register(inst); err != nil {
		t.Fatal(err)
	}
	wire.send(announcementOf(t, marker, nil))
	silent := func(p packet) bool {
		if speaksOf(svc, 120)(p) || speaksOf(svc, 0)(p) {
			t.Error("pion says now what it did not say")
		}
		return speaksOf(marker, 120)(p)
	}
	wire.await("marker", silent)

	// A query with as many known answers as questions is not answered, one
	// without is.
	q := packet{questions: []question{{serviceName, typePTR}}}
	known := q
	known.answers = []record{{name: serviceName, typ: typePTR, ttl: 120, target: instanceName(marker)}}
	answered := func(p packet) bool {
		for _, r := range p.answers {
			if p.response && r.typ == typePTR && r.target == instanceName(svc) {
				return true
			}
		}
		return false
	}
	for _, ask := range []packet{known, q} {
		data, err := ask.pack()
		if err != nil {
			t.Fatal(err)
		}
		wire.send(data)
	}
	wire.await("answer to the query without known answers", answered)
	wire.send(announcementOf(t, marker, nil))
	wire.await("marker", func(p packet) bool {
		if answered(p) {
			t.Error("pion answers a query with known answers now")
		}
		return speaksOf(marker, 120)(p)
	})

	c.Unregister(inst.Instance, inst.Service)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	wire.send(announcementOf(t, marker, nil))
	wire.await("marker", silent)
}
