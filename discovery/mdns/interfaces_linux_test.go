package mdns

import (
	"net"
	"net/netip"
	"slices"
	"syscall"
	"testing"

	"github.com/budgiehq/budgie/internal/lan"
	"golang.org/x/sys/unix"
)

// What rtnetlink says is what package net says, and more.
func TestInterfacesOfThisMachine(t *testing.T) {
	got, err := interfaces()
	if err != nil {
		t.Fatal(err)
	}
	want, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != len(want) {
		t.Fatalf("%d interfaces, and package net has %d", len(got), len(want))
	}
	for i, w := range want {
		g := got[i]
		if g.Index != w.Index || g.Name != w.Name || g.MTU != w.MTU || g.Flags != w.Flags || g.noCarrier != (w.Flags&net.FlagRunning == 0) {
			t.Errorf("got %+v, want %+v", g, w)
		}
		nets, err := w.Addrs()
		if err != nil {
			t.Fatal(err)
		}
		var all []netip.Addr
		for _, n := range nets {
			if addr, ok := addrOf(n); ok {
				all = append(all, addr)
			}
		}
		if addrs := usableAddrs(w, all); !slices.Equal(g.addrs, addrs) {
			t.Errorf("%s has %v, want %v", g.Name, g.addrs, addrs)
		}
	}
}

func TestBridgesAndPorts(t *testing.T) {
	lab := lan.New(t)
	a := lab.Host("a", lab.Switch())
	a.Docker(1)
	var list []candidate
	if err := a.Do(func() (err error) { list, err = interfaces(); return err }); err != nil {
		t.Fatal(err)
	}
	found := make(map[string]candidate)
	for _, c := range list {
		found[c.Name] = c
	}
	if d := found["docker0"]; !d.bridge || d.enslaved || !slices.Equal(d.ports, []string{"veth2"}) {
		t.Errorf("docker0 is %+v", d)
	}
	if v := found["veth2"]; v.bridge || !v.enslaved {
		t.Errorf("its port is %+v", v)
	}
	if e := found["eth0"]; e.bridge || e.enslaved || e.noCarrier || len(e.addrs) != 3 {
		t.Errorf("eth0 is %+v", e)
	}
}

// Addresses that the kernel does not use yet, or never will, are not announced.
func TestTentativeAddresses(t *testing.T) {
	for flags, want := range map[byte]bool{
		0: true, unix.IFA_F_PERMANENT: true, unix.IFA_F_TENTATIVE: false, unix.IFA_F_DADFAILED: false,
		unix.IFA_F_TENTATIVE | unix.IFA_F_OPTIMISTIC: true,
	} {
		addr := netip.MustParseAddr("fe80::1")
		m := &syscall.NetlinkMessage{
			Header: syscall.NlMsghdr{Type: unix.RTM_NEWADDR},
			Data:   append([]byte{unix.AF_INET6, 64, flags, 0, 7, 0, 0, 0, 20, 0, unix.IFA_ADDRESS, 0}, addr.AsSlice()...),
		}
		index, got, ok := parseAddr(m)
		if ok != want || ok && (index != 7 || got != addr) {
			t.Errorf("flags %#x: %d, %v, %t", flags, index, got, ok)
		}
	}
	if _, _, ok := parseAddr(&syscall.NetlinkMessage{Data: []byte{1}}); ok {
		t.Error("a message that is cut off has an address")
	}
	if k := kindOf([]byte{200, 0, 1, 0}); k != "" {
		t.Errorf("an attribute that is cut off has the kind %q", k)
	}
}
