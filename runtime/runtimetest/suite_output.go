package runtimetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/runtime"
)

// entries reads a log.
func (s *suite) entries(id string, opts runtime.LogOptions) []runtime.LogEntry {
	s.Helper()
	var out []runtime.LogEntry
	for e, err := range s.logger().Logs(s.ctx, id, opts) {
		if err != nil {
			s.Fatalf("Logs: %v", err)
		}
		out = append(out, e)
	}
	if s.ctx.Err() != nil {
		s.Fatal("Logs did not end")
	}
	return out
}

// only returns the lines of one stream.
func only(entries []runtime.LogEntry, stream runtime.LogStream) []string {
	var out []string
	for _, e := range entries {
		if e.Stream == stream {
			out = append(out, e.Line)
		}
	}
	return out
}

func (s *suite) testLogs() {
	before := time.Now().Add(-time.Second)
	id := s.create("print", "one", "two", "", "four", "five \u00e9", strings.Repeat("x", 100_000))
	if all := s.entries(id, runtime.LogOptions{}); len(all) != 0 {
		s.Fatalf("a container that was not started has logged %v", all)
	}
	s.start(id)
	s.wait(id)
	all := s.entries(id, runtime.LogOptions{})
	if got, want := only(all, runtime.Stdout), []string{"one", "", "five \u00e9"}; !slices.Equal(got, want) {
		s.Errorf("stdout is %q, want %q", got, want)
	}
	if got, want := only(all, runtime.Stderr), []string{"two", "four", strings.Repeat("x", 100_000)}; !slices.Equal(got, want) {
		s.Errorf("stderr is %.100q, want %.100q", got, want)
	}
	binary := s.run("binary")
	s.wait(binary)
	if got := only(s.entries(binary, runtime.LogOptions{}), runtime.Stdout); !slices.Equal(got, strings.Split(binaryOutput, "\n")) {
		s.Errorf("of bytes that are no text the log has %q, want %q", got, binaryOutput)
	}
	for i, e := range all {
		if e.Time.Before(before) || e.Time.After(time.Now().Add(time.Second)) {
			s.Errorf("an entry is from %v", e.Time)
		}
		if i > 0 && e.Time.Before(all[i-1].Time) && e.Stream == all[i-1].Stream {
			s.Errorf("an entry of %v comes after one of %v", e.Time, all[i-1].Time)
		}
	}
}

func (s *suite) testLogsUnknown() {
	var got error
	for _, err := range s.logger().Logs(s.ctx, NewID(), runtime.LogOptions{Follow: true}) {
		got = err
	}
	s.wantError("Logs of an unknown id", got, runtime.ErrNotFound)
}

func (s *suite) testLogsTail() {
	id := s.run("count", "25")
	s.wait(id)
	for _, test := range []struct {
		tail, want int
	}{{0, 25}, {1, 1}, {10, 10}, {25, 25}, {1000, 25}, {-1, 0}} {
		for _, follow := range []bool{false, true} {
			all := s.entries(id, runtime.LogOptions{Tail: test.tail, Follow: follow})
			if len(all) != test.want {
				s.Errorf("Tail %d gives %d entries, want %d", test.tail, len(all), test.want)
			} else if test.want > 0 && all[len(all)-1].Line != "24" {
				s.Errorf("Tail %d ends with %q", test.tail, all[len(all)-1].Line)
			}
		}
	}
}

func numbers(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = strconv.Itoa(i)
	}
	return out
}

// testLogsFollow: those who follow from the start, from the middle and from
// after the end all see everything, once, and come to an end.
func (s *suite) testLogsFollow() {
	const n = 500
	id := s.run("count", strconv.Itoa(n))
	s.inParallel(4, func(int) error {
		var got []string
		for e, err := range s.logger().Logs(s.ctx, id, runtime.LogOptions{Follow: true}) {
			if err != nil {
				return err
			}
			got = append(got, e.Line)
		}
		if !slices.Equal(got, numbers(n)) {
			return fmt.Errorf("followed %d lines, not the %d that were written: %q", len(got), n, got)
		}
		return nil
	})
	if st := s.status(id); st.State != lifecycle.Stopped {
		s.Fatalf("the log ended before the container: %+v", st)
	}
	if got := only(s.entries(id, runtime.LogOptions{Follow: true}), runtime.Stdout); !slices.Equal(got, numbers(n)) {
		s.Fatalf("after the end the log is %q", got)
	}
}

func (s *suite) testLogsFollowCancelled() {
	id := s.run("stubborn")
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	for e, err := range s.logger().Logs(ctx, id, runtime.LogOptions{Follow: true}) {
		if err != nil {
			s.Fatalf("the end of the context gives an error: %v", err)
		}
		if e.Line == "ready" {
			cancel()
		}
	}
	for range s.logger().Logs(ctx, id, runtime.LogOptions{Follow: true}) {
		s.Fatal("an ended context still yields")
	}
	if s.ctx.Err() != nil {
		s.Fatal("Logs did not end with its context")
	}
}

func (s *suite) testLogsOfAllRuns() {
	id := s.create("print", "out", "err")
	for range 3 {
		s.start(id)
		s.wait(id)
	}
	all := s.entries(id, runtime.LogOptions{})
	if got := only(all, runtime.Stdout); !slices.Equal(got, []string{"out", "out", "out"}) {
		s.Fatalf("three runs logged %q", got)
	}
}

func (s *suite) testLogsAfterAdopt() {
	id := s.settled("graceful", "0")
	s.reopen()
	if got := only(s.entries(id, runtime.LogOptions{}), runtime.Stdout); !slices.Equal(got, []string{"ready"}) {
		s.Fatalf("before Adopt the log is %q", got)
	}
	if _, err := s.Runtime.Adopt(s.ctx, id); err != nil {
		s.Fatal(err)
	}
	s.stop(id, grace)
	if got := only(s.entries(id, runtime.LogOptions{Follow: true}), runtime.Stdout); !slices.Equal(got, []string{"ready", "bye"}) {
		s.Fatalf("after Adopt and Stop the log is %q", got)
	}
}

func (s *suite) testExec() {
	spec := s.Spec("sleep")
	spec.Environment = append(spec.Environment, "SUITE_VARIABLE=a value")
	id := s.createSpec(spec)
	s.start(id)
	e := s.execer()
	for _, want := range []int{0, 1, 42, 255} {
		code, err := e.Exec(s.ctx, id, runtime.ExecConfig{Command: s.Command("exit", strconv.Itoa(want))})
		if err != nil || code != want {
			s.Errorf("Exec of exit %d gives %d, %v", want, code, err)
		}
	}
	var out, errs bytes.Buffer
	code, err := e.Exec(s.ctx, id, runtime.ExecConfig{Command: s.Command("print", "to out", "to err"), Stdout: &out, Stderr: &errs})
	if err != nil || code != 0 || out.String() != "to out\n" || errs.String() != "to err\n" {
		s.Errorf("Exec of print gives %d, %v, %q, %q", code, err, &out, &errs)
	}
	out.Reset()
	code, err = e.Exec(s.ctx, id, runtime.ExecConfig{Command: s.Command("cat"), Stdin: strings.NewReader("input"), Stdout: &out})
	if err != nil || code != 0 || out.String() != "input" {
		s.Errorf("Exec of cat gives %d, %v, %q", code, err, &out)
	}
	out.Reset()
	code, err = e.Exec(s.ctx, id, runtime.ExecConfig{Command: s.Command("env", "SUITE_VARIABLE"), Stdout: &out})
	if err != nil || code != 0 || out.String() != "SUITE_VARIABLE=a value\n" {
		s.Errorf("Exec of env gives %d, %v, %q", code, err, &out)
	}
	if _, err := e.Exec(s.ctx, id, runtime.ExecConfig{}); err == nil {
		s.Error("Exec without a command gives no error")
	}
	if st := s.status(id); st.State != lifecycle.Running {
		s.Fatalf("Exec ended the container: %+v", st)
	}
}

func (s *suite) testExecNotRunning() {
	e := s.execer()
	cfg := runtime.ExecConfig{Command: s.Command("exit", "0")}
	_, err := e.Exec(s.ctx, NewID(), cfg)
	s.wantError("Exec in an unknown container", err, runtime.ErrNotFound)
	id := s.create("exit", "0")
	_, err = e.Exec(s.ctx, id, cfg)
	s.wantError("Exec in a created container", err, runtime.ErrNotRunning)
	s.start(id)
	s.wait(id)
	_, err = e.Exec(s.ctx, id, cfg)
	s.wantError("Exec in a stopped container", err, runtime.ErrNotRunning)
}

func (s *suite) testExecCancelled() {
	id := s.run("sleep")
	ctx, cancel := context.WithTimeout(s.ctx, 50*time.Millisecond)
	defer cancel()
	_, err := s.execer().Exec(ctx, id, runtime.ExecConfig{Command: s.Command("stubborn")})
	s.wantError("Exec whose context ends", err, context.DeadlineExceeded)
	if st := s.status(id); st.State != lifecycle.Running {
		s.Fatalf("the end of an Exec ended the container: %+v", st)
	}
}

// testExecDiesWithContainer: an Exec under way does not outlive its container.
func (s *suite) testExecDiesWithContainer() {
	id := s.run("sleep")
	type result struct {
		code int
		err  error
	}
	done := make(chan result, 1)
	go func() {
		code, err := s.execer().Exec(s.ctx, id, runtime.ExecConfig{Command: s.Command("stubborn")})
		done <- result{code, err}
	}()
	s.stop(id, grace)
	r := <-done
	if s.ctx.Err() != nil {
		s.Fatal("Exec outlived its container")
	}
	// Exec may also have come too late.
	if r.err == nil && r.code == 0 || r.err != nil && !errors.Is(r.err, runtime.ErrNotRunning) {
		s.Fatalf("Exec in a container that was stopped gives %d, %v", r.code, r.err)
	}
}
