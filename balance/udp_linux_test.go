package balance_test

import (
	"fmt"
	"net"
	"syscall"
	"testing"

	"github.com/budgiehq/budgie/balance"
)

// Clients get answers from the address that they wrote to, and no others: on
// Linux all of 127.0.0.0/8 is this machine.
func TestUDPAnswersFromTheAddressWrittenTo(t *testing.T) {
	for _, bind := range []struct{ network, addr string }{{"udp4", "0.0.0.0:0"}, {"udp", "[::]:0"}} {
		t.Run(bind.network, func(t *testing.T) {
			conn, err := net.ListenPacket(bind.network, bind.addr)
			if err != nil {
				t.Fatal(err)
			}
			f := open(t, balance.Config{Mode: balance.ModeUDP, PacketConn: conn})
			f.set(newUDPBackend(t, "127.0.0.1:0", same).addr())
			port := f.Addr().(*net.UDPAddr).Port
			hosts := []string{"127.0.0.1", "127.0.0.2", "127.1.2.3"}
			if bind.network == "udp" {
				hosts = append(hosts, "[::1]")
			}
			// The same socket of a client, for each of its addresses a session.
			c := listenUDP(t, ":0")
			for _, host := range hosts {
				to, err := net.ResolveUDPAddr("udp", fmt.Sprintf("%s:%d", host, port))
				if err != nil {
					t.Fatal(err)
				}
				if _, err := c.WriteToUDP([]byte(host), to); err != nil {
					t.Fatal(err)
				}
				buf := make([]byte, 100)
				n, from, err := c.ReadFromUDP(buf)
				if err != nil || string(buf[:n]) != host || !from.IP.Equal(to.IP) || from.Port != port {
					t.Errorf("wrote to %v, got %q from %v, %v", to, buf[:n], from, err)
				}
			}
			if s := f.Status()[0]; s.Active != len(hosts) {
				t.Errorf("status = %+v; want %d sessions", s, len(hosts))
			}
		})
	}
}

// An address that nobody can send from, that of a whole network, is answered from
// another one.
func TestUDPAnswersBroadcast(t *testing.T) {
	conn, err := net.ListenPacket("udp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	f := open(t, balance.Config{Mode: balance.ModeUDP, PacketConn: conn})
	f.set(newUDPBackend(t, "127.0.0.1:0", same).addr())
	port := f.Addr().(*net.UDPAddr).Port
	c := listenUDP(t, "127.0.0.1:0")
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(fd uintptr) {
		err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_BROADCAST, 1)
	}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := c.WriteToUDP([]byte("anybody?"), &net.UDPAddr{IP: net.IPv4(127, 255, 255, 255), Port: port}); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 100)
		n, from, err := c.ReadFromUDP(buf)
		if err != nil || string(buf[:n]) != "anybody?" || from.Port != port {
			t.Errorf("got %q from %v, %v", buf[:n], from, err)
		}
	}
}
