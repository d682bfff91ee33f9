package runtimetest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/runtime"
)

func (s *suite) testAdoptOwn() {
	id := s.create("sleep")
	for _, want := range []lifecycle.State{lifecycle.Created, lifecycle.Running, lifecycle.Stopped} {
		switch want {
		case lifecycle.Running:
			s.start(id)
		case lifecycle.Stopped:
			s.stop(id, grace)
		}
		before := s.status(id)
		st, err := s.Runtime.Adopt(s.ctx, id)
		if err != nil {
			s.Fatal(err)
		}
		if st.State != want || st.PID != before.PID || !st.StartedAt.Equal(before.StartedAt) {
			s.Fatalf("Adopt of an own container returned %+v, was %+v", st, before)
		}
	}
}

func (s *suite) testAdoptRunning() {
	id := s.createSpec(WithPort(s.Spec("serve"), ServePort))
	st := s.start(id)
	s.reopen()
	if all, err := s.Runtime.List(s.ctx); err != nil || len(all) != 1 || all[0].State != lifecycle.Running {
		s.Fatalf("List before Adopt = %+v, %v", all, err)
	}
	for range 2 {
		now, err := s.Runtime.Adopt(s.ctx, id)
		if err != nil {
			s.Fatal(err)
		}
		if now.State != lifecycle.Running || now.PID != st.PID || !slices.Equal(now.Addresses, st.Addresses) || !now.StartedAt.Equal(st.StartedAt) {
			s.Fatalf("Adopt returned %+v, want %+v", now, st)
		}
	}
	s.get(st.Addresses[0].HostPort)
	_, err := s.Runtime.Start(s.ctx, id)
	s.wantError("Start of an adopted container", err, runtime.ErrRunning)
	s.wantError("Remove of an adopted container", s.Runtime.Remove(s.ctx, id), runtime.ErrRunning)
	s.stop(id, grace)
	s.wantStopped(s.status(id), 143, lifecycle.UnknownExitCode)
	st = s.start(id)
	s.get(st.Addresses[0].HostPort)
	s.stop(id, grace)
	s.wantStopped(s.status(id), 143)
}

// testAdoptEnded: a container that ended by itself is seen to have ended, by
// waiting and by adopting, whoever had begun it.
func (s *suite) testAdoptEnded() {
	before := s.run("exit", "9")
	s.wait(before)
	running := s.settled("graceful", "8")
	s.reopen()
	st, err := s.Runtime.Adopt(s.ctx, before)
	if err != nil {
		s.Fatal(err)
	}
	s.wantStopped(st, 9)
	if _, err := s.Runtime.Adopt(s.ctx, running); err != nil {
		s.Fatal(err)
	}
	waited := make(chan runtime.Status, 1)
	go func() {
		st, _ := s.Runtime.Wait(s.ctx, running)
		waited <- st
	}()
	s.stop(running, grace)
	s.wantStopped(<-waited, 8, lifecycle.UnknownExitCode)
}

// testRelease: a container that one program gave up is another's, while both live, and
// the first one's again after that.
func (s *suite) testRelease() {
	first, ok := s.Runtime.(runtime.Releaser)
	if !ok {
		s.Skip("the runtime is no Releaser: every process may supervise its containers")
	}
	if s.Reopen == nil {
		s.Skip("the harness says that the runtime's data does not outlive it")
	}
	id := s.settled("graceful", "8")
	before := s.status(id)
	other := s.Reopen(s.T)
	defer func() {
		if err := other.Close(); err != nil {
			s.Errorf("Close: %v", err)
		}
	}()
	waited := make(chan runtime.Status, 1)
	go func() {
		st, _ := s.Runtime.Wait(s.ctx, id)
		waited <- st
	}()
	for _, r := range []struct {
		from runtime.Releaser
		to   Runtime
	}{{first, other}, {other.(runtime.Releaser), s.Runtime}, {first, other}} {
		for range 2 {
			if err := r.from.Release(s.ctx, id); err != nil {
				s.Fatal(err)
			}
		}
		if st, err := r.to.Adopt(s.ctx, id); err != nil || st.PID != before.PID || st.State != lifecycle.Running {
			s.Fatalf("Adopt after Release returned %+v, %v, want %+v", st, err, before)
		}
	}
	if err := other.Stop(s.ctx, id, grace); err != nil {
		s.Fatal(err)
	}
	s.wantStopped(<-waited, 8, lifecycle.UnknownExitCode)
	if err := first.Release(s.ctx, NewID()); err != nil {
		s.Errorf("Release of a container that is not there: %v", err)
	}
}

// enteredContext tells when the call that it was given to has begun: none can
// wait for its end without asking for this.
type enteredContext struct {
	context.Context
	once    sync.Once
	entered chan struct{}
}

func (s *suite) entered() *enteredContext {
	return &enteredContext{Context: s.ctx, entered: make(chan struct{})}
}

func (c *enteredContext) Done() <-chan struct{} {
	c.once.Do(func() { close(c.entered) })
	return c.Context.Done()
}

// await returns when the call is under way.
func (s *suite) await(c *enteredContext, ended <-chan error) {
	s.Helper()
	select {
	case <-c.entered:
	case err := <-ended:
		s.Fatalf("the call ended before Close: %v", err)
	case <-s.ctx.Done():
		s.Fatal("the call does not look at its context")
	}
}

// follow follows the log of a container that prints "ready". The channel is
// closed when that was seen; the error is the log's last.
func (s *suite) follow(id string) (ready <-chan struct{}, ended <-chan error) {
	seen, failed := make(chan struct{}), make(chan error, 1)
	logger, ok := s.Runtime.(runtime.Logger)
	if !ok {
		close(seen)
		failed <- errors.New("there are no logs")
		return seen, failed
	}
	go func() {
		var last error
		for e, err := range logger.Logs(s.ctx, id, runtime.LogOptions{Follow: true}) {
			if last = err; err == nil && e.Line == "ready" {
				close(seen)
			}
		}
		failed <- last
	}()
	return seen, failed
}

// testClose: Close ends the calls that are under way, each with an error, and no
// container.
func (s *suite) testClose() {
	id := s.run("stubborn")
	ready, followed := s.follow(id)
	select {
	case <-ready:
	case <-s.ctx.Done():
		s.Fatal("the container prints nothing")
	}
	waiting, waited := s.entered(), make(chan error, 1)
	go func() {
		_, err := s.Runtime.Wait(waiting, id)
		waited <- err
	}()
	s.await(waiting, waited)
	for range 2 {
		if err := s.Runtime.Close(); err != nil {
			s.Fatal(err)
		}
	}
	s.closed = true
	for call, ended := range map[string]<-chan error{"Wait": waited, "Logs": followed} {
		select {
		case err := <-ended:
			if err == nil {
				s.Errorf("%s, under way at Close, ended without an error", call)
			}
		case <-s.ctx.Done():
			s.Fatalf("Close did not end %s", call)
		}
	}
	if _, err := s.Runtime.Status(s.ctx, id); err == nil {
		s.Fatal("Status works after Close")
	}
	if s.Reopen == nil {
		return
	}
	s.Runtime, s.closed = s.Reopen(s.T), false
	if st := s.status(id); st.State != lifecycle.Running {
		s.Fatalf("the container ended with Close: %+v", st)
	}
	// Not adopted: waiting works all the same.
	ctx, cancel := context.WithTimeout(s.ctx, 20*time.Millisecond)
	defer cancel()
	_, err := s.Runtime.Wait(ctx, id)
	s.wantError("Wait without Adopt", err, context.DeadlineExceeded)
}
