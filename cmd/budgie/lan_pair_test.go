//go:build linux

package main

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/budgiehq/budgie/internal/lan"
)

// Case S2: of two machines either one loses its power. The other one serves,
// restarts what ends, and is joined by a third one: there is no majority to lose.
func TestCaseS2EitherOfTwoDies(t *testing.T) {
	for _, victim := range []string{"a", "b"} {
		t.Run(victim, func(t *testing.T) {
			lab := lan.New(t)
			sw := lab.Switch()
			hosts := map[string]*machine{}
			for _, name := range []string{"a", "b", "c"} {
				hosts[name] = &machine{T: t, Host: lab.Host(name, sw)}
			}
			a, b, c := hosts["a"], hosts["b"], hosts["c"]
			a.Write("pages/index.html", "served by one of two")
			a.budgie("run", "-d", a.Write("web.bun", `version: "1.0"
image: {command: [sh, -c, 'exec busybox httpd -f -p "$PORT" -h data']}
ports: [{container_port: 80}]
volumes: [{source: pages, target: /data}]
restart_policy: {name: always}
healthcheck: {path: /index.html, interval: 200ms}
`))
			token := a.budgie("token")
			b.joins(token)
			c.joins(token)
			b.budgie("chirp", "-d", "-allow-process", "web")

			hosts[victim].PowerOff()
			survivor := a
			if victim == "a" {
				survivor = b
			}
			serves := func(m *machine) {
				t.Helper()
				if got := m.get("web"); !strings.Contains(got, "served by one of two") {
					t.Errorf("%s answers %q", m.Name, got)
				}
			}
			serves(survivor)
			survivor.Host.Run("kill", "-9", strconv.Itoa(survivor.list()[0].PID))
			survivor.until("the container is restarted", func(c containerJSON) bool { return c.Restarts == 1 && c.Ready })
			serves(survivor)
			c.budgie("chirp", "-d", "-allow-process", "web")
			serves(c)
			for _, m := range []*machine{survivor, c} {
				m.budgie("rm", "-f", "web")
			}
		})
	}
}

// until waits for a state of the machine's one container.
func (m *machine) until(what string, is func(containerJSON) bool) {
	m.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for begin := time.Now(); ; <-tick.C {
		list := m.list()
		if len(list) == 1 && is(list[0]) {
			return
		}
		if time.Since(begin) > 30*time.Second {
			m.Fatalf("%s: %+v", what, list)
		}
	}
}

// A supervisor is paused while it finds out whether a replica may stay, and
// another machine joins meanwhile, which takes the last place: the first one looks
// again when it goes on, and yields.
func TestPausedReplicaYields(t *testing.T) {
	lab := lan.New(t)
	sw := lab.Switch()
	a, b, c := &machine{T: t, Host: lab.Host("a", sw)}, &machine{T: t, Host: lab.Host("b", sw)}, &machine{T: t, Host: lab.Host("c", sw)}
	a.budgie("run", "-d", a.Write("web.bun", `version: "1.0"
image: {command: [sh, -c, 'exec busybox httpd -f -p "$PORT"']}
ports: [{container_port: 80}]
replicas: {max: 2}
`))
	token := a.budgie("token")
	b.joins(token)
	c.joins(token)
	supervisor := b.command("supervise", "-stay")
	if err := supervisor.Start(); err != nil {
		t.Fatal(err)
	}
	join := b.command("chirp", "-d", "-allow-process", "web")
	if err := join.Start(); err != nil {
		t.Fatal(err)
	}
	b.until("the replica is ready", func(c containerJSON) bool { return c.Ready })
	pause := func(sig os.Signal) {
		if err := supervisor.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
	}
	pause(syscall.SIGSTOP)
	c.budgie("chirp", "-d", "-allow-process", "web")
	pause(syscall.SIGCONT)
	if err := join.Wait(); err == nil || !strings.Contains(join.Printed(), "replicas.max is 2") {
		t.Errorf("the paused one: %v, %s", err, join.Printed())
	}
	if left := b.list(); len(left) != 0 {
		t.Errorf("it leaves %+v", left)
	}
	c.budgie("rm", "-f", "web")
}

// Two machines join while the network is cut between them, each the last one for which
// there is room, as far as it can see. When they see each other again, the one that
// joined last ends, and says why; it is not begun again, and the other one stays.
func TestJoinedApartYields(t *testing.T) {
	lab := lan.New(t)
	sw := lab.Switch()
	a, b, c := &machine{T: t, Host: lab.Host("a", sw)}, &machine{T: t, Host: lab.Host("b", sw)}, &machine{T: t, Host: lab.Host("c", sw)}
	a.budgie("run", "-d", a.Write("web.bun", `version: "1.0"
image: {command: [sh, -c, 'exec busybox httpd -f -p "$PORT"']}
ports: [{container_port: 80}]
restart_policy: {name: always}
replicas: {max: 2}
`))
	token := a.budgie("token")
	b.joins(token)
	c.joins(token)
	cut := lab.Partition([]*lan.Host{b.Host}, []*lan.Host{c.Host})
	b.budgie("chirp", "-d", "-allow-process", "web")
	foreground := c.command("chirp", "-allow-process", "web")
	if err := foreground.Start(); err != nil {
		t.Fatal(err)
	}
	foreground.Await("is ready on runtime")
	cut.Heal()
	began := time.Now()
	if err := foreground.Wait(); err == nil || !strings.Contains(foreground.Printed(), "3 replicas serve, replicas.max is 2, and it is one of those that joined last") {
		t.Errorf("the later one: %v, %s", err, foreground.Printed())
	}
	t.Logf("it ended %v after the network was whole again", time.Since(began).Round(10*time.Millisecond))
	for _, m := range []*machine{a, b} {
		m.until("it goes on", func(r containerJSON) bool { return r.Ready && r.Restarts == 0 })
		m.budgie("rm", "-f", "web")
	}
}
