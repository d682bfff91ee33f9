//go:build linux

package lan

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	Isolate(Roles{
		"serve": serve, "fail": func(context.Context, []string) error { return errors.New("as told") },
	})
	goleak.VerifyTestMain(m)
}

// serve is a role: it answers every UDP packet and every line over TCP on a port
// with the host's name.
func serve(ctx context.Context, args []string) error {
	name, err := os.Hostname()
	if err != nil {
		return err
	}
	udp, err := net.ListenPacket("udp", ":"+args[0])
	if err != nil {
		return err
	}
	tcp, err := net.Listen("tcp", ":"+args[0])
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { udp.Close(); tcp.Close() })
	go func() {
		for {
			c, err := tcp.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				lines := bufio.NewScanner(c)
				lines.Buffer(nil, 1<<20)
				for lines.Scan() {
					fmt.Fprintln(c, name)
				}
			}()
		}
	}()
	fmt.Println("serving")
	buf := make([]byte, 2048)
	for {
		_, from, err := udp.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := udp.WriteTo([]byte(name), from); err != nil {
			fmt.Println(err) // there is no way back, perhaps
		}
	}
}

// server starts the role.
func server(h *Host) *Cmd {
	h.lab.t.Helper()
	cmd := h.Role("serve", "700")
	h.lab.must(cmd.Start())
	cmd.Await("serving")
	return cmd
}

// udp returns a socket in a host that talks to a server.
func udp(t *testing.T, h *Host, to netip.Addr) net.Conn {
	t.Helper()
	return dial(t, h, "udp", to)
}

func dial(t *testing.T, h *Host, network string, to netip.Addr) net.Conn {
	t.Helper()
	var c net.Conn
	if err := h.Do(func() (err error) {
		c, err = net.DialTimeout(network, netip.AddrPortFrom(to, 700).String(), patience)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// asked sends n packets and returns how many answers come within a moment of
// the last.
func asked(t *testing.T, c net.Conn, n int, moment time.Duration) int {
	t.Helper()
	answers := 0
	buf := make([]byte, 100)
	for late := true; late; { // answers to what was asked before
		if err := c.SetReadDeadline(time.Now().Add(10 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		_, err := c.Read(buf)
		late = err == nil
	}
	for range n {
		// Errors are those of packets before, such as "no route to host".
		_, _ = c.Write([]byte("?"))
		if err := c.SetReadDeadline(time.Now().Add(moment)); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(buf); err == nil {
			answers++
		}
	}
	return answers
}

const moment = 200 * time.Millisecond

// eventually asks until there is an answer.
func eventually(t *testing.T, c net.Conn) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); {
		if asked(t, c, 1, moment) == 1 {
			return
		}
	}
	t.Fatal("no answer")
}

func TestHostsTalk(t *testing.T) {
	lab := New(t)
	one, two := lab.Switch(), lab.Switch()
	a, b, c := lab.Host("a", one), lab.Host("b", one, two), lab.Host("c", two)
	server(b)
	for _, addr := range append(b.NIC(0).Addrs(), b.NIC(0).LinkLocal().WithZone("eth0")) {
		eventually(t, udp(t, a, addr))
		tcp := dial(t, a, "tcp", addr)
		fmt.Fprintln(tcp, "?")
		if line, err := bufio.NewReader(tcp).ReadString('\n'); err != nil || line != "b\n" {
			t.Errorf("%s answers %q, %v", addr, line, err)
		}
	}
	eventually(t, udp(t, c, b.NIC(1).Addr()))
	a.Run("ping", "-c1", b.NIC(0).Addr().String())
	if err := a.Command("ping", "-c1", "-W1", c.NIC(0).Addr().String()).Run(); err == nil {
		t.Error("a host of one switch reaches one of the other")
	}
}

func TestLinkLocalOnly(t *testing.T) {
	lab := New(t)
	sw := lab.SwitchOf()
	a, b := lab.Host("a", sw), lab.Host("b", sw)
	server(b)
	eventually(t, udp(t, a, b.NIC(0).LinkLocal().WithZone("eth0")))
	if out := b.Run("ip", "-br", "addr", "show", "eth0"); strings.Count(out, "/") != 1 {
		t.Errorf("addresses of a host on a switch without subnets: %s", out)
	}
}

func TestHostIsAPlaceOfItsOwn(t *testing.T) {
	lab := New(t)
	sw := lab.Switch()
	a, b := lab.Host("a", sw), lab.Host("b", sw)
	a.Run("touch", "/run/mark")
	if err := b.Command("test", "-e", "/run/mark").Run(); err == nil {
		t.Error("hosts share /run")
	}
	if got := a.Run("cat", "/etc/hostname") + a.Run("hostname"); got != "a\na\n" {
		t.Errorf("host a calls itself %q", got)
	}
	if a.Run("cat", "/etc/machine-id") == b.Run("cat", "/etc/machine-id") {
		t.Error("hosts have one machine id")
	}
	sleeper := a.Command("sleep", "4711")
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	if out := a.Run("bash", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"); !strings.Contains(out, "sleep 4711") {
		t.Errorf("a host does not see its process: %s", out)
	}
	if out := b.Run("bash", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"); strings.Contains(out, "sleep 4711") {
		t.Error("a host sees the process of another")
	}
	if err := sleeper.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = sleeper.Wait()
	if out := a.Run("budgie", "ps"); !strings.Contains(out, "NAME") {
		t.Errorf("budgie ps prints %q", out)
	}
	var seen string
	if err := a.Do(func() (err error) { seen, err = os.Hostname(); return err }); err != nil || seen != "a" {
		t.Errorf("Do ran on %q, %v", seen, err)
	}
	if name, err := os.Hostname(); err != nil || name == "a" {
		t.Errorf("the test itself is on %q now, %v", name, err)
	}
}

func TestRolesEnd(t *testing.T) {
	lab := New(t)
	a := lab.Host("a", lab.Switch())
	server(a).Stop()
	cmd := a.Role("fail")
	if err := cmd.Run(); err == nil || !strings.Contains(err.Error(), "role fail: as told") {
		t.Errorf("a role that fails: %v", err)
	}
	if err := a.Role("nobody").Run(); err == nil || !strings.Contains(err.Error(), `no role "nobody"`) {
		t.Errorf("a role that does not exist: %v", err)
	}
}

func TestAwaitLine(t *testing.T) {
	lab := New(t)
	cmd := lab.Host("a").Command("bash", "-c", "echo one; echo two; echo one; exec sleep 4713")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	one := func(line string) bool { return line == "one" }
	line, first := cmd.AwaitLine("one", 0, one)
	_, second := cmd.AwaitLine("one", first, one)
	if line != "one" || first != len("one\n") || second != len("one\ntwo\none\n") {
		t.Errorf("found %q, and the ends at %d and %d", line, first, second)
	}
	// Nothing comes of a command that has ended.
	ended := make(chan struct{})
	close(ended)
	out := newOutput()
	fmt.Fprint(out, "all")
	if !out.wait(ended, func(s string) bool { return s == "all" }) || out.wait(ended, func(s string) bool { return s == "more" }) {
		t.Error("what has ended was waited for, or not looked at once more")
	}
}

func TestCables(t *testing.T) {
	lab := New(t)
	sw := lab.Switch()
	a, b := lab.Host("a", sw), lab.Host("b", sw)
	server(b)
	c := udp(t, a, b.NIC(0).Addr())
	eventually(t, c)
	carrier := func() string {
		return strings.TrimSpace(b.Run("bash", "-c", "ip -br link show eth0 | grep -o NO-CARRIER || echo carrier"))
	}
	for name, fault := range map[string]struct {
		begin, end func()
		carrier    string
	}{
		"cable": {b.NIC(0).CableOut, b.NIC(0).CableIn, "NO-CARRIER"},
		"down":  {b.NIC(0).Down, b.NIC(0).Up, "carrier"},
	} {
		fault.begin()
		if n := asked(t, c, 2, moment); n > 0 {
			t.Errorf("%s: %d answers over it", name, n)
		}
		if got := carrier(); got != fault.carrier {
			t.Errorf("%s: the host sees %s", name, got)
		}
		fault.end()
		eventually(t, c)
	}
	b.NIC(0).Remove()
	if err := b.Command("ip", "link", "show", "eth0").Run(); err == nil {
		t.Error("the card that was removed is there")
	}
	b.NIC(0).Restore()
	eventually(t, c)
	// A new card, while everything runs.
	other := lab.Switch()
	d := lab.Host("d", other)
	b.Plug(other)
	eventually(t, udp(t, d, b.NIC(1).Addr()))
}

func TestPartitions(t *testing.T) {
	lab := New(t)
	sw := lab.Switch()
	a, b, c := lab.Host("a", sw), lab.Host("b", sw), lab.Host("c", sw)
	server(b)
	server(c)
	ab, ac := udp(t, a, b.NIC(0).Addr()), udp(t, a, c.NIC(0).Addr())
	eventually(t, ab)
	eventually(t, ac)
	cut := lab.Partition([]*Host{a, c}, []*Host{b})
	if n := asked(t, ab, 2, moment); n > 0 {
		t.Errorf("%d answers through a partition", n)
	}
	eventually(t, ac)
	cut.Heal()
	eventually(t, ab)

	// One way: the question arrives, the answer does not.
	seen := sw.Capture()
	cut = lab.Deaf([]*Host{b}, []*Host{a})
	if n := asked(t, ab, 2, moment); n > 0 {
		t.Errorf("%d answers to who is deaf", n)
	}
	cut.Heal()
	eventually(t, ab)
	packets, err := seen.Stop(func(p Packet) bool { return p.Protocol == unix.IPPROTO_UDP && p.NIC == b.NIC(0) })
	if err != nil {
		t.Fatal(err)
	}
	if len(packets) < 3 {
		t.Errorf("the answers of who is not heard were not sent: %v", packets)
	}
}

func TestLossAndRate(t *testing.T) {
	lab := New(t)
	sw := lab.Switch()
	a, b := lab.Host("a", sw), lab.Host("b", sw)
	server(b)
	c := udp(t, a, b.NIC(0).Addr())
	eventually(t, c)
	loss := b.NIC(0).Lose(300)
	// Both ways: 51 % fail. The chance that 100 all arrive, or none, is nil.
	n := asked(t, c, 100, 10*time.Millisecond)
	loss.Heal()
	t.Logf("%d of 100 answers at a loss of 30 %% each way", n)
	if n == 0 || n == 100 {
		t.Errorf("%d of 100 answers", n)
	}
	eventually(t, c)

	send := func() time.Duration {
		tcp := dial(t, a, "tcp", b.NIC(0).Addr())
		begin := time.Now()
		if _, err := tcp.Write([]byte(strings.Repeat("x", 300_000) + "\n")); err != nil {
			t.Fatal(err)
		}
		if _, err := bufio.NewReader(tcp).ReadString('\n'); err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		return time.Since(begin)
	}
	fast := send()
	b.NIC(0).Limit(400_000)
	slow := send()
	b.NIC(0).Limit(0)
	t.Logf("300 kB take %v, and %v at 400 kB/s", fast, slow)
	// What the bucket holds goes at once; the rest cannot go faster than told.
	if slow < 500*time.Millisecond {
		t.Errorf("300 kB took %v at 400 kB a second", slow)
	}
}

func TestAddresses(t *testing.T) {
	lab := New(t)
	sw := lab.Switch()
	a, b := lab.Host("a", sw), lab.Host("b", sw)
	for _, prefix := range []string{"192.168.1.77/24", "fd00:1::77/64"} {
		addr := b.NIC(0).AddAddr(prefix)
		a.Run("ping", "-c1", "-w30", addr.String())
		b.NIC(0).DelAddr(addr)
		if err := a.Command("ping", "-c1", "-W1", addr.String()).Run(); err == nil {
			t.Errorf("%s answers, and is gone", addr)
		}
	}
}

func TestPowerOff(t *testing.T) {
	lab := New(t)
	sw := lab.Switch()
	a, b := lab.Host("a", sw), lab.Host("b", sw)
	serving := server(b)
	b.Run("bash", "-c", "touch /run/mark kept; setsid sleep 4712 >/dev/null 2>&1 &")
	c := udp(t, a, b.NIC(0).Addr())
	eventually(t, c)
	b.PowerOff()
	if n := asked(t, c, 2, moment); n > 0 {
		t.Errorf("%d answers from a host that is off", n)
	}
	_ = serving.Wait()
	if s, ok := serving.ProcessState.Sys().(syscall.WaitStatus); !ok || s.Signal() != syscall.SIGKILL {
		t.Errorf("the server ended with %v", serving.ProcessState)
	}
	if left := sleepers(t, "4712"); left > 0 {
		t.Errorf("%d processes survived", left)
	}
	b.PowerOn()
	if out := b.Run("bash", "-c", "ls; ls /run"); !strings.Contains(out, "kept") || strings.Contains(out, "mark") {
		t.Errorf("after the reboot there is %q", out)
	}
	server(b)
	eventually(t, c)
}

// sleepers counts the processes of the whole test that sleep for so long.
func sleepers(t *testing.T, seconds string) int {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, f := range files {
		if data, err := os.ReadFile(f); err == nil && string(data) == "sleep\x00"+seconds+"\x00" {
			n++
		}
	}
	return n
}

func TestCapture(t *testing.T) {
	lab := New(t)
	sw := lab.Switch()
	a, b := lab.Host("a", sw), lab.Host("b", sw)
	server(b)
	c := udp(t, a, b.NIC(0).Addr())
	eventually(t, c)
	seen := sw.Capture()
	got := asked(t, c, 5, patience)
	packets, err := seen.Stop(func(p Packet) bool { return p.Protocol == unix.IPPROTO_UDP })
	if err != nil {
		t.Fatal(err)
	}
	if got != 5 || len(packets) != 10 {
		t.Fatalf("%d answers, and %d packets: %v", got, len(packets), packets)
	}
	for i, p := range packets {
		want, text := a.NIC(0), "?"
		if i%2 == 1 {
			want, text = b.NIC(0), "b"
		}
		if p.NIC != want || string(p.Payload) != text || p.Src.Addr() != want.Addr() || MDNS(p) {
			t.Errorf("packet %d: %v %q", i, p, p.Payload)
		}
	}
}

func TestServicesOfAHost(t *testing.T) {
	lab := New(t)
	sw := lab.Switch()
	a, b := lab.Host("a", sw), lab.Host("b", sw)
	avahi := a.Avahi()
	if name := avahi.HostName(); name != "a" {
		t.Errorf("avahi calls the host %q: %s", name, avahi.Printed())
	}
	b.Avahi()
	publish := a.Command("avahi-publish", "-s", "door", "_test._tcp", "80")
	if err := publish.Start(); err != nil {
		t.Fatal(err)
	}
	publish.Await("Established")
	browse := b.Command("avahi-browse", "-rp", "_test._tcp")
	if err := browse.Start(); err != nil {
		t.Fatal(err)
	}
	browse.Await(";a.local;" + a.NIC(0).Addr().String() + ";80;")

	containers := a.Docker(2)
	for _, c := range containers {
		cmd := a.Command("ping", "-c1", "172.17.0.1").Cmd
		if err := c.Start(cmd); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("a container does not reach its host: %v", err)
		}
	}
}
