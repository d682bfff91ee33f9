//go:build linux

package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/budgiehq/budgie/internal/lan"
)

// running is a node that runs.
type running struct {
	*lan.Cmd
	t     lan.TB
	stdin *os.File
	// at is how far its output was read.
	at int
}

// start starts a node that announces count replicas from number first on.
func start(t lan.TB, h *lan.Host, total, first, count int) *running {
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = out.Close() })
	n := &running{h.Role("node", strconv.Itoa(total), strconv.Itoa(first), strconv.Itoa(count)), t, out, 0}
	n.Stdin = in
	err = n.Start()
	_ = in.Close()
	if err != nil {
		t.Fatal(err)
	}
	n.Await("ready")
	return n
}

// line waits for the next line whose words are ok and returns them.
func (n *running) line(what string, ok func(words []string) bool) (words []string) {
	_, n.at = n.AwaitLine(what, n.at, func(line string) bool {
		words = strings.Fields(line)
		return ok(words)
	})
	return words
}

// do has a node do something and returns when it began.
func (n *running) do(verb string, replica int) time.Time {
	fmt.Fprintln(n.stdin, verb, replica)
	words := n.line(verb, func(w []string) bool {
		return len(w) == 4 && w[0] == "did" && w[1] == verb && w[2] == strconv.Itoa(replica)
	})
	return n.time(words[3])
}

func (n *running) time(word string) time.Time {
	ns, err := strconv.ParseInt(word, 10, 64)
	if err != nil {
		n.t.Fatal(err)
	}
	return time.Unix(0, ns)
}

// saw waits for the next event about a replica whose addresses, as printed, are
// ok, and returns when it was. An empty type is any.
func (n *running) saw(typ string, replica int, ok func(addrs string) bool) time.Time {
	words := n.line(fmt.Sprintf("%s of replica %d", typ, replica), func(w []string) bool {
		return len(w) > 2 && (w[1] == typ || typ == "") && w[2] == idOf(replica) && ok(strings.Join(w[3:], " "))
	})
	return n.time(words[0])
}

func anything(string) bool { return true }

// pair is two hosts on a switch, with a node each. The first announces.
type pair struct {
	t    lan.TB
	host *lan.Host
	a, b *running
}

func newPair(t lan.TB) pair {
	lab := lan.New(t)
	sw := lab.SwitchOf("192.168.1.0/24")
	a, b := lab.Host("a", sw), lab.Host("b", sw)
	return pair{t, a, start(t, a, 0, 1, 1), start(t, b, 0, 2, 1)}
}

// arrivals measures how soon a new replica is seen, and its end.
func (p pair) arrivals(r *result) {
	for i := range r.settings.rounds {
		n := 100 + i
		<-time.After(200 * time.Millisecond) // right after a change another one is told 50 ms later
		begun := p.a.do("announce", n)
		r.arrival = append(r.arrival, p.b.saw("added", n, anything).Sub(begun))
		// Its end is that of a replica that is established.
		<-time.After(2 * time.Second)
		begun = p.a.do("withdraw", n)
		r.departure = append(r.departure, p.b.saw("removed", n, anything).Sub(begun))
	}
}

// addresses measures how soon a changed address is seen, alone.
func (p pair) addresses(r *result) {
	card := p.host.NIC(0)
	for i := range r.settings.few {
		<-time.After(2 * time.Second)
		begun := time.Now()
		card.DelAddr(card.Addr())
		now := card.AddAddr(fmt.Sprintf("192.168.1.%d/24", 100+i)).String()
		seen := p.b.saw("updated", 1, func(addrs string) bool {
			return strings.Contains(addrs, now) && strings.Count(addrs, "192.168.") == 1
		})
		r.address = append(r.address, seen.Sub(begun))
	}
}

// comingBack measures how soon a host whose cable was out sees and is seen.
func comingBack(t lan.TB, r *result) {
	lab := lan.New(t)
	sw := lab.Switch()
	a, b := lab.Host("a", sw), lab.Host("b", sw)
	here := start(t, a, 0, 1, 1)
	for i := range r.settings.few {
		n := 10 + i
		a.NIC(0).CableOut()
		here.saw("updated", 1, func(addrs string) bool { return strings.Contains(addrs, "127.0.0.1") })
		there := start(t, b, 0, n, 1) // which knows nothing of the first one
		begun, mark := time.Now(), here.at
		a.NIC(0).CableIn()
		r.sees = append(r.sees, here.saw("added", n, anything).Sub(begun))
		r.seen = append(r.seen, there.saw("added", 1, anything).Sub(begun))
		here.at = mark
		here.saw("updated", 1, func(addrs string) bool { return strings.Contains(addrs, "192.168.") })
		there.Stop()
		here.saw("removed", n, anything)
	}
}

const (
	hosts    = 20
	replicas = 100
)

// crowd measures how soon a newcomer lists the replicas of many hosts, and how
// many packets there are when nothing happens.
func crowd(t lan.TB, r *result) {
	lab := lan.New(t)
	sw := lab.Switch()
	var nodes []*running
	for i := range hosts {
		nodes = append(nodes, start(t, lab.Host(fmt.Sprintf("h%d", i), sw), replicas, 1+i*replicas/hosts, replicas/hosts))
	}
	for _, n := range nodes {
		n.Await("total ")
	}
	newcomer := lab.Host("newcomer", sw)
	for range r.settings.few {
		n := start(t, newcomer, replicas, 0, 0)
		words := n.line("total", func(w []string) bool { return len(w) == 2 && w[0] == "total" })
		r.list = append(r.list, n.time(words[1]).Sub(time.Unix(0, 0)))
		n.Stop()
	}
	capture := sw.Capture()
	<-time.After(r.settings.idle)
	packets, err := capture.Stop(lan.MDNS)
	if err != nil {
		t.Fatal(err)
	}
	r.packets = len(packets)
	for _, p := range packets {
		r.bytes += len(p.Payload)
	}
}
