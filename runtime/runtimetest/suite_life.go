package runtimetest

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/runtime"
)

func (s *suite) testName() {
	if name := s.Runtime.Name(); name == "" || name != s.Runtime.Name() {
		s.Fatalf("Name is %q and then %q", name, s.Runtime.Name())
	}
	if err := s.Runtime.Supports(s.ctx, s.Spec("sleep")); err != nil {
		s.Fatalf("Supports refuses the suite's own program: %v", err)
	}
}

func (s *suite) testCreate() {
	id := s.create("sleep")
	st := s.status(id)
	if st.ID != id || st.State != lifecycle.Created || st.PID != 0 || st.Exit != nil || !st.StartedAt.IsZero() || len(st.Addresses) != 0 {
		s.Fatalf("a created container has status %+v", st)
	}
	err := s.Runtime.Create(s.ctx, runtime.Config{ID: id, Spec: s.Spec("exit", "3")})
	s.wantError("Create of a known id", err, runtime.ErrExists)
	s.start(id)
	err = s.Runtime.Create(s.ctx, runtime.Config{ID: id, Spec: s.Spec("exit", "3")})
	s.wantError("Create of the id of a running container", err, runtime.ErrExists)
	if st := s.status(id); st.State != lifecycle.Running {
		s.Fatalf("a refused Create changed the container: %+v", st)
	}
}

func (s *suite) testCreateInvalid() {
	for _, id := range []string{"", "short", "../../etc", strings.Repeat("g", 64), strings.Repeat("a", 65), strings.Repeat("/", 64)} {
		if err := s.Runtime.Create(s.ctx, runtime.Config{ID: id, Spec: s.Spec("sleep")}); err == nil {
			s.Errorf("Create accepts the id %q", id)
		}
	}
	s.wantNone()
}

// testCreateKeepsNoMemory: the specification is the caller's again once Create
// has returned.
func (s *suite) testCreateKeepsNoMemory() {
	spec := WithPort(s.Spec("serve"), ServePort)
	spec.Image.Command = slices.Clone(spec.Image.Command)
	spec.Environment = append(spec.Environment, "SUITE_VALUE=kept")
	spec.Labels = map[string]string{"kept": "yes"}
	served := s.createSpec(spec)
	printing := s.Spec("env", "SUITE_VALUE")
	printing.Image.Command = slices.Clone(printing.Image.Command)
	printing.Environment = append(printing.Environment, "SUITE_VALUE=kept")
	printed := s.createSpec(printing)
	for _, c := range []bunfile.Spec{spec, printing} {
		for i := range c.Image.Command {
			c.Image.Command[i] = "spoiled"
		}
		for i := range c.Environment {
			c.Environment[i] = "SUITE_VALUE=spoiled"
		}
		for i := range c.Ports {
			c.Ports[i] = bunfile.Port{ContainerPort: 9, Protocol: bunfile.UDP}
		}
		clear(c.Labels)
	}
	st := s.start(served)
	if len(st.Addresses) != 1 || st.Addresses[0].ContainerPort != ServePort {
		s.Fatalf("addresses are %v, want one for port %d", st.Addresses, ServePort)
	}
	s.get(st.Addresses[0].HostPort)
	s.stop(served, grace)
	s.start(printed)
	s.wantStopped(s.wait(printed), 0)
	s.waitFor(printed, "SUITE_VALUE=kept")
}

func (s *suite) wantNone() {
	s.Helper()
	all, err := s.Runtime.List(s.ctx)
	if err != nil || len(all) != 0 {
		s.Fatalf("List = %v, %v, want nothing", all, err)
	}
}

func (s *suite) testUnknown() {
	for _, id := range []string{NewID(), "short", "../" + NewID()} {
		_, err := s.Runtime.Start(s.ctx, id)
		s.wantError("Start of an unknown id", err, runtime.ErrNotFound)
		_, err = s.Runtime.Adopt(s.ctx, id)
		s.wantError("Adopt of an unknown id", err, runtime.ErrNotFound)
		s.wantError("Stop of an unknown id", s.Runtime.Stop(s.ctx, id, grace), runtime.ErrNotFound)
		s.wantError("Remove of an unknown id", s.Runtime.Remove(s.ctx, id), runtime.ErrNotFound)
		_, err = s.Runtime.Status(s.ctx, id)
		s.wantError("Status of an unknown id", err, runtime.ErrNotFound)
		_, err = s.Runtime.Wait(s.ctx, id)
		s.wantError("Wait for an unknown id", err, runtime.ErrNotFound)
	}
	s.wantNone()
}

func (s *suite) testStartAndServe() {
	spec := WithPort(s.Spec("serve"), ServePort)
	id := s.createSpec(spec)
	st := s.start(id)
	if len(st.Addresses) != 1 || st.Addresses[0].ContainerPort != ServePort {
		s.Fatalf("addresses are %v, want one for port %d", st.Addresses, ServePort)
	}
	s.get(st.Addresses[0].HostPort)
	if now := s.status(id); now.State != lifecycle.Running || now.PID != st.PID ||
		!slices.Equal(now.Addresses, st.Addresses) || !now.StartedAt.Equal(st.StartedAt) {
		s.Fatalf("Start said %+v, Status says %+v", st, now)
	}
	_, err := s.Runtime.Start(s.ctx, id)
	s.wantError("Start of a running container", err, runtime.ErrRunning)
	s.get(st.Addresses[0].HostPort)
	s.stop(id, grace)
	if c, err := net.Dial("tcp", st.Addresses[0].HostPort); err == nil {
		c.Close()
		s.Fatalf("%s still answers after the stop", st.Addresses[0].HostPort)
	}
}

// get asks a container's server, which may not have begun to listen yet.
func (s *suite) get(addr string) {
	s.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for {
		req, err := http.NewRequestWithContext(s.ctx, http.MethodGet, "http://"+addr, nil)
		if err != nil {
			s.Fatal(err)
		}
		resp, err := client.Do(req)
		if err == nil {
			_, err = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			if err != nil || resp.StatusCode != http.StatusOK {
				s.Fatalf("%s answers %s, %v", addr, resp.Status, err)
			}
			return
		}
		if s.ctx.Err() != nil || !errors.Is(err, syscall.ECONNREFUSED) {
			s.Fatalf("%s does not answer: %v", addr, err)
		}
		<-tick.C
	}
}

func (s *suite) testStartOutlivesContext() {
	id := s.create("sleep")
	ctx, cancel := context.WithCancel(s.ctx)
	if _, err := s.Runtime.Start(ctx, id); err != nil {
		s.Fatal(err)
	}
	cancel()
	// If the end of the context killed it, its end would be seen soon.
	ctx, cancel = context.WithTimeout(s.ctx, 200*time.Millisecond)
	defer cancel()
	if st, err := s.Runtime.Wait(ctx, id); !errors.Is(err, context.DeadlineExceeded) {
		s.Fatalf("the container ended with its starter's context: %+v, %v", st, err)
	}
}

func (s *suite) testExitCodes() {
	for _, test := range []struct {
		args []string
		code int
	}{
		{[]string{"exit", "0"}, 0},
		{[]string{"exit", "1"}, 1},
		{[]string{"exit", "3"}, 3},
		{[]string{"exit", "255"}, 255},
		{[]string{"print"}, 0},
	} {
		id := s.run(test.args...)
		s.wantStopped(s.wait(id), test.code)
		s.wantStopped(s.status(id), test.code)
	}
}

func (s *suite) testStartAnew() {
	id := s.create("exit", "7")
	var last time.Time
	for range 3 {
		st := s.start(id)
		if !st.StartedAt.After(last) {
			s.Fatalf("started at %v after %v", st.StartedAt, last)
		}
		last = st.StartedAt
		s.wantStopped(s.wait(id), 7)
	}
	id = s.createSpec(WithPort(s.Spec("serve"), ServePort))
	for range 2 {
		st := s.start(id)
		s.get(st.Addresses[0].HostPort)
		s.stop(id, grace)
		s.wantStopped(s.status(id), 143)
	}
}

func (s *suite) testStopGraceful() {
	id := s.settled("graceful", "5")
	s.stop(id, grace)
	s.wantStopped(s.status(id), 5)
	if all := s.entries(id, runtime.LogOptions{}); all[len(all)-1].Line != "bye" {
		s.Fatalf("the last words are missing: %v", all)
	}
	// The end by the signal itself, once the program is there to get it: what
	// stands in for it at first may end with a code of its own.
	id = s.settled("idle")
	s.stop(id, grace)
	s.wantStopped(s.status(id), 143)
}

func (s *suite) testStopKills() {
	id := s.settled("stubborn")
	s.stop(id, 50*time.Millisecond)
	s.wantStopped(s.status(id), 137)
}

func (s *suite) testStopAtOnce() {
	id := s.settled("graceful", "5")
	s.stop(id, 0)
	s.wantStopped(s.status(id), 137)
	for _, e := range s.entries(id, runtime.LogOptions{}) {
		if e.Line == "bye" {
			s.Fatal("a stop without grace was a graceful one")
		}
	}
}

func (s *suite) testStopNotRunning() {
	id := s.create("exit", "4")
	s.stop(id, grace)
	if st := s.status(id); st.State != lifecycle.Created {
		s.Fatalf("Stop changed a container that was not started: %+v", st)
	}
	s.start(id)
	ended := s.wait(id)
	s.stop(id, grace)
	s.stop(id, 0)
	if st := s.status(id); st.Exit == nil || st.Exit.Code != 4 || !st.Exit.At.Equal(ended.Exit.At) {
		s.Fatalf("Stop changed the exit of a stopped container: %+v, was %+v", st.Exit, ended.Exit)
	}
}

func (s *suite) testStopConcurrently() {
	id := s.settled("stubborn")
	s.inParallel(8, func(i int) error {
		switch i % 4 {
		case 0:
			return s.Runtime.Stop(s.ctx, id, 20*time.Millisecond)
		case 1:
			_, err := s.Runtime.Wait(s.ctx, id)
			return err
		case 2:
			_, err := s.Runtime.Status(s.ctx, id)
			return err
		}
		return s.Runtime.Stop(s.ctx, id, time.Millisecond)
	})
	s.wantStopped(s.status(id), 137)
}

func (s *suite) testStopCancelled() {
	id := s.settled("stubborn")
	ctx, cancel := context.WithTimeout(s.ctx, 50*time.Millisecond)
	defer cancel()
	s.wantError("Stop whose context ends", s.Runtime.Stop(ctx, id, grace), context.DeadlineExceeded)
	s.stop(id, 0)
	s.wantStopped(s.status(id), 137)
}

func (s *suite) testRemove() {
	id := s.run("sleep")
	s.wantError("Remove of a running container", s.Runtime.Remove(s.ctx, id), runtime.ErrRunning)
	if st := s.status(id); st.State != lifecycle.Running {
		s.Fatalf("a refused Remove changed the container: %+v", st)
	}
	s.stop(id, grace)
	for _, id := range []string{id, s.create("sleep")} {
		if err := s.Runtime.Remove(s.ctx, id); err != nil {
			s.Fatal(err)
		}
		_, err := s.Runtime.Status(s.ctx, id)
		s.wantError("Status after Remove", err, runtime.ErrNotFound)
		s.wantError("Remove after Remove", s.Runtime.Remove(s.ctx, id), runtime.ErrNotFound)
	}
	s.wantNone()
	// The id is free again, and nothing of the old container is left.
	if err := s.Runtime.Create(s.ctx, runtime.Config{ID: id, Spec: s.Spec("exit", "2")}); err != nil {
		s.Fatal(err)
	}
	if st := s.status(id); st.State != lifecycle.Created || st.Exit != nil {
		s.Fatalf("a new container has the status %+v", st)
	}
}

func (s *suite) testList() {
	s.wantNone()
	want := map[string]lifecycle.State{}
	for range 3 {
		want[s.create("sleep")] = lifecycle.Created
		want[s.run("sleep")] = lifecycle.Running
		id := s.run("exit", "1")
		s.wait(id)
		want[id] = lifecycle.Stopped
	}
	all, err := s.Runtime.List(s.ctx)
	if err != nil {
		s.Fatal(err)
	}
	if !slices.IsSortedFunc(all, func(a, b runtime.Status) int { return strings.Compare(a.ID, b.ID) }) {
		s.Fatalf("List is not sorted by id: %v", all)
	}
	got := map[string]lifecycle.State{}
	for _, st := range all {
		got[st.ID] = st.State
	}
	for id, state := range want {
		if got[id] != state {
			s.Errorf("List says %q of %s, want %q", got[id], id, state)
		}
	}
	if len(got) != len(want) {
		s.Errorf("List has %d containers, want %d", len(got), len(want))
	}
}

func (s *suite) testWait() {
	id := s.create("graceful", "6")
	if st := s.wait(id); st.State != lifecycle.Created {
		s.Fatalf("Wait for a container that was not started returned %+v", st)
	}
	s.start(id)
	s.waitFor(id, "ready")
	type result struct {
		st  runtime.Status
		err error
	}
	results := make(chan result, 4)
	for range cap(results) {
		go func() {
			st, err := s.Runtime.Wait(s.ctx, id)
			results <- result{st, err}
		}()
	}
	s.stop(id, grace)
	for range cap(results) {
		r := <-results
		if r.err != nil {
			s.Fatal(r.err)
		}
		s.wantStopped(r.st, 6)
	}
	s.wantStopped(s.wait(id), 6)
}

func (s *suite) testWaitCancelled() {
	id := s.run("sleep")
	ctx, cancel := context.WithTimeout(s.ctx, 20*time.Millisecond)
	defer cancel()
	_, err := s.Runtime.Wait(ctx, id)
	s.wantError("Wait whose context ends", err, context.DeadlineExceeded)
	if st := s.status(id); st.State != lifecycle.Running {
		s.Fatalf("the end of a Wait changed the container: %+v", st)
	}
}

func (s *suite) testCancelled() {
	id := s.create("sleep")
	ctx, cancel := context.WithCancel(s.ctx)
	cancel()
	other := NewID()
	s.wantError("Create", s.Runtime.Create(ctx, runtime.Config{ID: other, Spec: s.Spec("sleep")}), context.Canceled)
	_, err := s.Runtime.Start(ctx, id)
	s.wantError("Start", err, context.Canceled)
	_, err = s.Runtime.List(ctx)
	s.wantError("List", err, context.Canceled)
	s.wantError("Remove", s.Runtime.Remove(ctx, id), context.Canceled)
	if st := s.status(id); st.State != lifecycle.Created {
		s.Fatalf("calls without time changed the container: %+v", st)
	}
	_, err = s.Runtime.Status(s.ctx, other)
	s.wantError("Status after a Create without time", err, runtime.ErrNotFound)
}

// testParallel has several containers live at once.
func (s *suite) testParallel() {
	const n = 16
	ids := make([]string, n)
	addrs := make([]string, n)
	spec := WithPort(s.Spec("serve"), ServePort)
	s.inParallel(n, func(i int) error {
		ids[i] = NewID()
		if err := s.Runtime.Create(s.ctx, runtime.Config{ID: ids[i], Spec: spec}); err != nil {
			return err
		}
		st, err := s.Runtime.Start(s.ctx, ids[i])
		if err == nil {
			addrs[i] = st.Addresses[0].HostPort
		}
		return err
	})
	if unique := slices.Compact(slices.Sorted(slices.Values(addrs))); len(unique) != n {
		s.Fatalf("%d containers share %d addresses", n, len(unique))
	}
	for _, addr := range addrs {
		s.get(addr)
	}
	s.inParallel(n, func(i int) error {
		if err := s.Runtime.Stop(s.ctx, ids[i], grace); err != nil {
			return err
		}
		if st, err := s.Runtime.Wait(s.ctx, ids[i]); err != nil || st.Exit == nil || st.Exit.Code != 143 {
			return errors.Join(errors.New("not stopped by SIGTERM"), err)
		}
		return s.Runtime.Remove(s.ctx, ids[i])
	})
	s.wantNone()
}

// testStartAndEcho: a UDP port has an address as a TCP port has.
func (s *suite) testStartAndEcho() {
	spec := s.Spec("echo")
	spec.Ports = []bunfile.Port{{ContainerPort: ServePort, Protocol: bunfile.UDP, HostPort: 20_000}}
	id := s.createSpec(spec)
	st := s.start(id)
	if len(st.Addresses) != 1 || st.Addresses[0].ContainerPort != ServePort || st.Addresses[0].Protocol != bunfile.UDP {
		s.Fatalf("addresses are %v, want one for port %d/udp", st.Addresses, ServePort)
	}
	// The host port, which systems do not choose by themselves, is the balancer's.
	if _, port, _ := net.SplitHostPort(st.Addresses[0].HostPort); port == "20000" {
		s.Errorf("the runtime took the published port: %v", st.Addresses[0])
	}
	s.waitFor(id, "listening")
	conn, err := net.Dial("udp", st.Addresses[0].HostPort)
	if err != nil {
		s.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("hello")); err != nil {
		s.Fatal(err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		s.Fatal(err)
	}
	buf := make([]byte, 16)
	if n, err := conn.Read(buf); err != nil || string(buf[:n]) != "hello" {
		s.Fatalf("the answer is %q, %v", buf[:n], err)
	}
	s.stop(id, grace)
}
