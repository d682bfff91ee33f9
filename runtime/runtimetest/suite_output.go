package runtimetest

import (
	"context"
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
