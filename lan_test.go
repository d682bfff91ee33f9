//go:build linux

package budgie_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/budgiehq/budgie/internal/lan"
	"github.com/budgiehq/budgie/trust"
)

// flockHosts are hosts of a laboratory whose nodes are in one flock.
type flockHosts struct {
	*testing.T
	lab   *lan.Lab
	sw    *lan.Switch
	token trust.Token
}

func newFlockHosts(t *testing.T, subnets ...string) *flockHosts {
	lab := lan.New(t)
	return &flockHosts{t, lab, lab.SwitchOf(subnets...), trust.NewToken()}
}

// host starts a host with a role, and returns when that has printed what it does
// first.
func (f *flockHosts) host(name, role, first string) (*lan.Host, *lan.Cmd) {
	f.Helper()
	h := f.lab.Host(name, f.sw)
	return h, f.role(h, role, first)
}

func (f *flockHosts) role(h *lan.Host, role, first string) *lan.Cmd {
	f.Helper()
	cmd := h.Role(role)
	cmd.Env = append(cmd.Env, "BUDGIE_TOKEN="+f.token.Reveal())
	if err := cmd.Start(); err != nil {
		f.Fatal(err)
	}
	cmd.Await(first)
	return cmd
}

// id returns the id of the container that a node runs.
func id(node *lan.Cmd) string {
	_, line, _ := strings.Cut(node.Printed(), "running ")
	id, _, _ := strings.Cut(line, "\n")
	return id
}

// request asks the frontend on a host once.
func request(by *lan.Host) (string, error) {
	client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, addr string) (conn net.Conn, err error) {
			err = by.Do(func() (err error) {
				conn, err = new(net.Dialer).DialContext(ctx, network, addr)
				return err
			})
			return conn, err
		},
	}}
	resp, err := client.Get("http://127.0.0.1:80/")
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(resp.Status)
	}
	return string(body), err
}

// answered asks until the answer is the wanted one, and returns the time that it
// took.
func (f *flockHosts) answered(by *lan.Host, want string) time.Duration {
	f.Helper()
	begin := time.Now()
	for {
		got, err := request(by)
		if err == nil && got == want {
			return time.Since(begin)
		}
		if time.Since(begin) > 30*time.Second {
			f.Fatalf("%q answers, %v; want %q", got, err, want)
		}
	}
}

// Case D2: a host loses its power. The others have it gone long before its
// announcement expires, traffic goes on at the others, and it is found again when
// it is back.
func TestCaseD2KilledHost(t *testing.T) {
	f := newFlockHosts(t, "192.168.1.0/24")
	a, nodeA := f.host("a", "node", "running")
	_, nodeB := f.host("b", "node", "running")
	c, watch := f.host("c", "watch", "watching")
	watch.Await("added " + id(nodeA))
	watch.Await("added " + id(nodeB))
	f.answered(c, "a")
	f.answered(c, "b")
	// A node is connected to only when it has been there for a while.
	<-time.After(4 * time.Second)
	begin := time.Now()
	gone := id(nodeA)
	// A request that the host has when it loses its power, or gets after that, is
	// asked of the other one.
	ended, asked := make(chan struct{}), make(chan int)
	go func() {
		n := 0
		defer func() { asked <- n }()
		for ; ; n++ {
			if _, err := request(c); err != nil {
				t.Errorf("a request fails: %v", err)
			}
			select {
			case <-ended:
				return
			default:
			}
		}
	}()
	a.PowerOff()
	watch.Await("removed " + gone)
	close(ended)
	t.Logf("%d requests were answered meanwhile", <-asked)
	t.Logf("a host without power was gone after %v", time.Since(begin).Round(10*time.Millisecond))
	if strings.Contains(watch.Printed(), "removed "+id(nodeB)) {
		t.Error("so was the other one")
	}
	for range 20 {
		if got, err := request(c); err != nil || got != "b" {
			t.Errorf("without it %q answers, %v", got, err)
		}
	}
	a.PowerOn()
	again := f.role(a, "node", "running")
	watch.Await("added " + id(again))
	f.answered(c, "a")
}

// Case D7: a host gets another address, and traffic reaches it there, by the same
// identity.
func TestCaseD7ChangedAddress(t *testing.T) {
	f := newFlockHosts(t, "192.168.1.0/24")
	a, node := f.host("a", "node", "running")
	c, watch := f.host("c", "watch", "watching")
	watch.Await("added " + id(node))
	f.answered(c, "a")
	old := a.NIC(0).Addr()
	a.NIC(0).DelAddr(old)
	moved := a.NIC(0).AddAddr(old.Next().Next().Next().Next().String() + "/24")
	watch.Await("[" + moved.String() + " ")
	t.Logf("traffic resumed %v after the change was seen", f.answered(c, "a").Round(10*time.Millisecond))
	if strings.Count(node.Printed(), "running") != 1 {
		t.Errorf("the node printed %s", node.Printed())
	}
}

// Case D6: hosts that have nothing but link-local addresses of IPv6 find each
// other, join, and get traffic.
func TestCaseD6LinkLocalOnly(t *testing.T) {
	f := newFlockHosts(t)
	_, node := f.host("a", "node", "running")
	f.host("b", "join", "running")
	c, watch := f.host("c", "watch", "watching")
	watch.Await("added " + id(node))
	if printed := watch.Printed(); strings.Contains(printed, "192.168") || !strings.Contains(printed, "%eth0") {
		t.Errorf("it was found as %s", printed)
	}
	f.answered(c, "a")
	f.answered(c, "b")
}
