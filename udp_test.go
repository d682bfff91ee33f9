package budgie_test

import (
	"errors"
	"net"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/budgiehq/budgie"
	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/internal/testenv"
	"github.com/budgiehq/budgie/lifecycle"
)

// udpEndpoint returns where the container's UDP port is published.
func udpEndpoint(t *testing.T, rec lifecycle.Container) lifecycle.Endpoint {
	t.Helper()
	for _, e := range rec.Endpoints {
		if e.Protocol == bunfile.UDP {
			return e
		}
	}
	t.Fatalf("no UDP port among the endpoints %+v", rec.Endpoints)
	return lifecycle.Endpoint{}
}

// dialUDP opens a socket of a client.
func dialUDP(t *testing.T, addr string) net.Conn {
	t.Helper()
	conn, err := net.Dial("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// ask sends a datagram until an answer comes, as a client of UDP does. Who answers
// repeats the question in the end.
func ask(t *testing.T, conn net.Conn, question string) string {
	t.Helper()
	buf := make([]byte, 1<<16)
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		if _, err := conn.Write([]byte(question)); err != nil {
			continue // the last one was refused
		}
		_ = conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		for {
			n, err := conn.Read(buf)
			if err != nil {
				break
			}
			// One to another question is late: that was put again meanwhile.
			if answer := string(buf[:n]); strings.HasSuffix(answer, question) {
				return answer
			}
		}
	}
	t.Fatalf("no answer to %q from %s", question, conn.RemoteAddr())
	return ""
}

// dns is a container with a TCP and a UDP port of the same number.
func dns(name string) bunfile.Spec {
	spec := web(name)
	spec.Ports = []bunfile.Port{{ContainerPort: 53, Protocol: bunfile.UDP}, {ContainerPort: 53}}
	return spec
}

func TestUDPPortIsPublished(t *testing.T) {
	f := newFakes(t)
	spec := dns("dns")
	// A number that is free for both.
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	spec.Ports[0].HostPort = ln.Addr().(*net.TCPAddr).Port
	spec.Ports[1].HostPort = spec.Ports[0].HostPort
	_ = ln.Close()
	rec, err := f.Run(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	want := []lifecycle.Endpoint{
		{ContainerPort: 53, Protocol: bunfile.UDP, Host: "127.0.0.1", Port: spec.Ports[0].HostPort},
		{ContainerPort: 53, Protocol: bunfile.TCP, Host: "127.0.0.1", Port: spec.Ports[0].HostPort, HTTP: true},
	}
	if !slices.Equal(rec.Endpoints, want) {
		t.Errorf("endpoints %+v, want %+v", rec.Endpoints, want)
	}
	if got := ask(t, dialUDP(t, want[0].String()), "who?"); got != "who?" {
		t.Errorf("the UDP port answers %q", got)
	}
	if got := fetch(t, rec.URL()); got != "dns" {
		t.Errorf("the TCP port answers %q", got)
	}
	if err := f.Stop(t.Context(), "dns"); err != nil {
		t.Fatal(err)
	}
	conn, err := net.ListenPacket("udp", want[0].String())
	if err != nil {
		t.Fatalf("the port is not free after the stop: %v", err)
	}
	_ = conn.Close()
}

// Where any port will do, it is the same one for the next supervisor.
func TestUDPPortKeepsItsNumber(t *testing.T) {
	f := newFakes(t)
	first, second := f.client(t), f.client(t)
	end := supervise(t, first)
	rec, err := runDetached(t, f.Client, always(dns("dns")))
	if err != nil {
		t.Fatal(err)
	}
	conn := dialUDP(t, udpEndpoint(t, rec).String())
	ask(t, conn, "before")
	_ = end()
	supervise(t, second)
	got := eventually(t, f.Client, "dns", "the adoption", func(r lifecycle.Container) bool { return !r.Unsupervised })
	if !slices.Equal(got.Endpoints, rec.Endpoints) {
		t.Errorf("endpoints %+v, then %+v", rec.Endpoints, got.Endpoints)
	}
	if answer := ask(t, conn, "after"); answer != "after" {
		t.Errorf("the same client gets %q from the adopted container", answer)
	}
	// A crash leaves the port open, and leads to the next run.
	crash(t, f, rec)
	eventually(t, f.Client, "dns", "the restart", func(r lifecycle.Container) bool { return running(r) && r.Restarts == 1 })
	if answer := ask(t, conn, "again"); answer != "again" {
		t.Errorf("the same client gets %q from the next run", answer)
	}
}

func TestUDPPortTaken(t *testing.T) {
	f := newFakes(t)
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	spec := dns("dns")
	spec.Ports[0].HostPort = conn.LocalAddr().(*net.UDPAddr).Port
	_, err = f.Run(t.Context(), spec)
	if !errors.Is(err, budgie.ErrNotReady) || !strings.Contains(err.Error(), "/udp is taken") {
		t.Fatalf("got %v", err)
	}
	if list, err := f.runtime.List(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("the runtime has %v, %v", list, err)
	}
}

// The bind address of published ports is that of UDP ports too.
func TestUDPPortIsBound(t *testing.T) {
	if conn, err := net.ListenPacket("udp", "[::1]:0"); err != nil {
		testenv.Skip(t, "needs IPv6 on the loopback interface")
	} else {
		_ = conn.Close()
	}
	f := newFakes(t)
	c := f.client(t, budgie.WithBindAddress("::1"))
	rec, err := c.Run(t.Context(), dns("dns"))
	if err != nil {
		t.Fatal(err)
	}
	e := udpEndpoint(t, rec)
	if e.Host != "::1" {
		t.Fatalf("published at %+v", e)
	}
	ask(t, dialUDP(t, e.String()), "here")
	e.Host = "127.0.0.1"
	conn := dialUDP(t, e.String())
	// Nobody is there, and the kernel says so.
	_, werr := conn.Write([]byte("there"))
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	if n, rerr := conn.Read(make([]byte, 8)); werr != nil || !errors.Is(rerr, syscall.ECONNREFUSED) {
		t.Errorf("127.0.0.1 took the datagram: %d bytes, %v, %v", n, werr, rerr)
	}
}
