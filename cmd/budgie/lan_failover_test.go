//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/budgiehq/budgie/internal/lan"
)

// failover is five machines that run a service, and a sixth one that uses it without
// pause: at the published port of one of the five, and at a balancer of its own.
type failover struct {
	*testing.T
	lab   *lan.Lab
	nodes []*machine
	door  *machine
	// all is true where there is time for everything.
	all bool
	// supervisors are the machines' present ones, or what was upgraded to those.
	supervisors map[*machine]*lan.Cmd
	balancer    *lan.Cmd
	fault       *lan.Fault
	// load is told what to do by tell, vias times how to send so far.
	load *lan.Cmd
	tell *os.File
	vias int
	// ledger is where the replicas note what they did, and results where the load
	// notes what became of its requests; of the latter so much was read.
	ledger, results string
	seen            []sent
	read            int64
	troubles        []trouble
}

// trouble is what was done to a machine.
type trouble struct {
	what   string
	victim *machine
	// began and done are around the moment at which it happened.
	began, done time.Time
	// lost is within what time after it a request may still have been sent to the
	// victim, of which nobody knew; less than 0 where nothing may fail.
	lost time.Duration
	// calm is when requests began to be answered at once again.
	calm time.Time
}

// A fault stops a machine, its container, or its network, and ends that again.
type fault struct {
	what     string
	lost     time.Duration
	hit, end func(f *failover, m *machine)
}

// word is within what time those that use a connection know that it was broken off, on
// a machine that has other things to do, too.
const word = 250 * time.Millisecond

// rotation is within what time a dead replica leaves rotation.
const rotation = 3 * time.Second

// longest is how long a request may take at most: until a machine that was sent it is
// found to be silent, after 6 s, and another one has answered.
const longest = 9 * time.Second

// silence is more than what the others take to notice that a machine is silent.
const silence = 8 * time.Second

var faults = []fault{
	{"stopped", -1, (*failover).stop, (*failover).join},
	{"killed", word, (*failover).kill, func(*failover, *machine) {}},
	{"crashed", word, (*failover).crash, (*failover).supervise},
	{"powered off", rotation, func(_ *failover, m *machine) { m.PowerOff() }, (*failover).powerOn},
	{"cut off", rotation, (*failover).cut, func(f *failover, _ *machine) { f.fault.Heal() }},
}

// Under a constant load one machine after the other fails, each in another way, and
// comes back. A stop fails no request. In any other case those alone fail that cannot
// be repeated and were under way to the machine, which here means that they may have
// been sent to it before anybody could know; and none is done twice. With
// BUDGIE_FAILOVER=all each of them fails in each way, and for longer than it takes
// the others to see that it is silent.
func TestFailover(t *testing.T) {
	f := newFailover(t)
	f.all = os.Getenv("BUDGIE_FAILOVER") == "all"
	for i, victim := range f.nodes {
		for j, fault := range faults {
			if i == j || f.all {
				f.try(fault, victim, f.nodes[(i+1)%len(f.nodes)])
			}
		}
	}
	f.finish()
	f.judge()
}

// finish ends the load.
func (f *failover) finish() {
	if _, err := f.tell.WriteString("end\n"); err != nil {
		f.Fatal(err)
	}
	if err := f.load.Wait(); err != nil {
		f.Fatal(err, f.load.Printed())
	}
}

func newFailover(t *testing.T) *failover {
	f := &failover{T: t, lab: lan.New(t), supervisors: make(map[*machine]*lan.Cmd)}
	sw := f.lab.Switch()
	for i := range 5 {
		f.nodes = append(f.nodes, &machine{T: t, Host: f.lab.Host(fmt.Sprintf("node%d", i+1), sw)})
	}
	f.door = &machine{T: t, Host: f.lab.Host("door", sw)}
	f.ledger, f.results = filepath.Join(t.TempDir(), "ledger"), filepath.Join(t.TempDir(), "results")
	first := f.nodes[0]
	f.supervise(first)
	first.budgie("run", "-d", first.Write("web.bun", fmt.Sprintf(`version: "1.0"
image: {command: [%q, -ledger, %q]}
ports: [{container_port: 80, host_port: 8080}]
restart_policy: {name: always}
healthcheck: {path: /work?took=0s, interval: 500ms}
`, filepath.Join(binDir, "testserver"), f.ledger)))
	token := first.budgie("token")
	for _, m := range f.nodes[1:] {
		m.joins(token)
		f.supervise(m)
		m.budgie("chirp", "-d", "-allow-process", "web")
	}
	f.door.joins(token)
	f.balancer = f.door.command("chirp", "-balance", ":8080", "web")
	if err := f.balancer.Start(); err != nil {
		t.Fatal(err)
	}
	f.balancer.Await("serving web")
	f.awaitReplica()
	for _, m := range append(f.nodes, f.door) {
		t.Cleanup(func() {
			if log := f.supervisors[m]; t.Failed() && log != nil {
				t.Logf("the supervisor of %s: %s", m.Name, log.Printed())
			}
		})
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the balancer: %s", f.balancer.Printed())
		}
	})
	f.start()
	return f
}

// awaitReplica returns when the balancer has found a replica.
func (f *failover) awaitReplica() {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for begin := time.Now(); ; <-tick.C {
		ask := f.door.Command("busybox", "wget", "-qO-", "http://127.0.0.1:8080/")
		if err := ask.Run(); err == nil {
			return
		} else if time.Since(begin) > 20*time.Second {
			f.Fatal(err)
		}
	}
}

// start starts the load, and returns when all machines answer at both ways.
func (f *failover) start() {
	in, tell, err := os.Pipe()
	if err != nil {
		f.Fatal(err)
	}
	f.tell, f.load = tell, f.door.Role("load", f.results)
	f.Cleanup(func() { _ = tell.Close() })
	f.load.Stdin = in
	if err := errors.Join(f.load.Start(), in.Close()); err != nil {
		f.Fatal(err)
	}
	f.via("balancer", "http://127.0.0.1:8080")
	f.enter(f.nodes[0])
	for _, m := range f.nodes {
		f.awaitAnswers(m)
	}
}

// via has the load go by an address.
func (f *failover) via(name, url string) {
	if _, err := fmt.Fprintln(f.tell, "via", name, url); err != nil {
		f.Fatal(err, f.load.Printed())
	}
	f.vias++
	f.load.Await(fmt.Sprintf("change %d is done\n", f.vias))
}

// enter has the load go by the published port of a machine.
func (f *failover) enter(m *machine) {
	f.via("port", fmt.Sprintf("http://%s:8080", m.NIC(0).Addr()))
}

// supervise starts a machine's supervisor.
func (f *failover) supervise(m *machine) {
	cmd := m.command("supervise", "-stay")
	if err := cmd.Start(); err != nil {
		f.Fatal(err)
	}
	f.supervisors[m] = cmd
}

func (f *failover) stop(m *machine) { m.budgie("stop", "web") }

func (f *failover) join(m *machine) {
	m.budgie("rm", "web")
	m.budgie("chirp", "-d", "-allow-process", "web")
}

// kill kills the container, which its supervisor starts again.
func (f *failover) kill(m *machine) { m.Host.Run("kill", "-9", strconv.Itoa(m.list()[0].PID)) }

// crash kills all of Budgie on a machine.
func (f *failover) crash(m *machine) {
	pid := m.list()[0].PID
	m.Host.Run("kill", "-9", f.supervisorOf(m))
	m.Host.Run("kill", "-9", strconv.Itoa(pid))
}

func (f *failover) powerOn(m *machine) {
	m.PowerOn()
	f.supervise(m)
}

// cut takes a machine off the network of all others.
func (f *failover) cut(m *machine) {
	others := []*lan.Host{f.door.Host}
	for _, o := range f.nodes {
		if o != m {
			others = append(others, o.Host)
		}
	}
	f.fault = f.lab.Partition([]*lan.Host{m.Host}, others)
}

// try does something to a machine, waits until the others have taken over, ends it,
// and waits until the machine answers again.
func (f *failover) try(fault fault, victim, entrance *machine) {
	f.enter(entrance)
	t := trouble{what: fault.what, victim: victim, lost: fault.lost, began: time.Now()}
	fault.hit(f, victim)
	t.done = time.Now()
	t.calm = f.awaitCalm(t.done)
	f.troubles = append(f.troubles, t)
	if f.all && t.lost == rotation {
		<-time.After(time.Until(t.done.Add(silence)))
	}
	fault.end(f, victim)
	f.awaitAnswers(victim)
}

// results reads what became of the load so far.
func (f *failover) look() []sent {
	file, err := os.Open(f.results)
	if err != nil {
		f.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	if _, err := file.Seek(f.read, io.SeekStart); err != nil {
		f.Fatal(err)
	}
	text, err := io.ReadAll(file)
	if err != nil {
		f.Fatal(err)
	}
	text = text[:bytes.LastIndexByte(text, '\n')+1]
	f.read += int64(len(text))
	for line := range bytes.Lines(text) {
		var s sent
		if err := json.Unmarshal(line, &s); err != nil {
			f.Fatal(err)
		}
		f.seen = append(f.seen, s)
	}
	return f.seen
}

// await waits for something that shows in the load.
func (f *failover) await(what string, is func([]sent) bool) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for begin := time.Now(); !is(f.look()); <-tick.C {
		if time.Since(begin) > 40*time.Second {
			f.Fatalf("within 40 s there was nothing of %s", what)
		}
	}
}

// awaitAnswers waits until a machine answers what is sent from now on, both ways.
func (f *failover) awaitAnswers(m *machine) {
	now := time.Now()
	f.await("answers of "+m.Name, func(all []sent) bool {
		ways := make(map[string]bool)
		for _, s := range all {
			if s.Began.After(now) && s.By == m.Name {
				ways[s.Via] = true
			}
		}
		return len(ways) == 2
	})
}

// The load is calm when for so long all that is sent is answered within so long.
const (
	calmFor  = 800 * time.Millisecond
	calmSoon = 700 * time.Millisecond
)

// awaitCalm returns when after a time everything began to be answered at once. What
// has no answer yet is missing among the ids.
func (f *failover) awaitCalm(after time.Time) (calm time.Time) {
	f.await("calm", func(all []sent) bool {
		byID := make(map[int]sent)
		var now time.Time
		for _, s := range all {
			if s.Began.After(after) {
				byID[s.ID] = s
			}
			now = later(now, s.Ended)
		}
		last := 0
		for id, s := range byID {
			if now.Sub(s.Began) > calmSoon {
				last = max(last, id)
			}
		}
		id := last
		for s, ok := byID[id]; ok && s.answered() && s.Ended.Sub(s.Began) <= calmSoon; s, ok = byID[id] {
			calm = s.Began
			id--
		}
		return id < last && byID[last].Began.Sub(calm) >= calmFor
	})
	return calm
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// judge says which requests failed that should not have, and counts the others.
func (f *failover) judge() {
	doneBy := f.readLedger()
	failed := make([]int, len(f.troubles))
	posts := 0
	for _, s := range f.look() {
		by := doneBy[s.ID]
		if s.Method == http.MethodPost {
			posts++
		}
		if took := s.Ended.Sub(s.Began); took > longest*time.Duration(max(1, f.silences(s))) {
			f.Errorf("%v is too long: %+v", took, s)
		}
		switch {
		case len(by) > 1:
			f.Errorf("request %d was done by %v", s.ID, by)
		case s.answered() && s.Method == http.MethodPost && !slices.Equal(by, []string{s.By}):
			f.Errorf("request %d was answered by %s, and done by %v", s.ID, s.By, by)
		case s.answered():
		default:
			i := slices.IndexFunc(f.troubles, func(t trouble) bool { return t.explains(s, by) })
			if i < 0 {
				f.Errorf("failed without a reason: %+v, done by %v", s, by)
				f.place(s)
				continue
			}
			failed[i]++
		}
	}
	f.Logf("%d requests, of which %d must not be repeated", len(f.seen), posts)
	for i, t := range f.troubles {
		var slowest time.Duration
		for _, s := range f.seen {
			if s.Ended.After(t.began) && s.Began.Before(t.calm) && s.answered() {
				slowest = max(slowest, s.Ended.Sub(s.Began))
			}
		}
		f.Logf("%s %s: %d failed that were on their way to it, calm after %v, the longest answer took %v",
			t.victim.Name, t.what, failed[i], t.calm.Sub(t.done).Round(time.Millisecond), slowest.Round(time.Millisecond))
	}
}

// silences is how many machines fell silent while a request was under way: it may have
// waited for each of them.
func (f *failover) silences(s sent) (n int) {
	for _, t := range f.troubles {
		if t.lost == rotation && s.Ended.After(t.began) && s.Began.Before(t.done.Add(rotation)) {
			n++
		}
	}
	return n
}

// explains reports whether what was done to a machine is why a request failed: it
// must not be repeated, and was, or may have been, under way to the machine, which
// alone can have done it.
func (t trouble) explains(s sent, by []string) bool {
	return t.lost >= 0 && s.Method == http.MethodPost && s.Status == http.StatusBadGateway && s.Conns == 1 &&
		s.Ended.After(t.began) && s.Began.Before(t.done.Add(t.lost)) && (len(by) == 0 || by[0] == t.victim.Name)
}

// place says when a request was sent, by what was done last before.
func (f *failover) place(s sent) {
	for _, t := range slices.Backward(f.troubles) {
		if s.Ended.After(t.began) {
			f.Logf("… it was sent %v after, and ended %v after %s was %s", s.Began.Sub(t.done), s.Ended.Sub(t.done), t.victim.Name, t.what)
			return
		}
	}
}

// readLedger returns by whom each request was done.
func (f *failover) readLedger() map[int][]string {
	text, err := os.ReadFile(f.ledger)
	if err != nil {
		f.Fatal(err)
	}
	by := make(map[int][]string)
	for line := range strings.Lines(string(text)) {
		id, name, _ := strings.Cut(strings.TrimSpace(line), " ")
		n, err := strconv.Atoi(id)
		if err != nil {
			f.Fatalf("the ledger has the line %q", line)
		}
		by[n] = append(by[n], name)
	}
	return by
}
