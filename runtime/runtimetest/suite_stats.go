package runtimetest

import (
	"encoding/json"
	"time"

	"github.com/budgiehq/budgie/runtime"
)

func (s *suite) statser() runtime.Statser {
	s.Helper()
	return ability[runtime.Statser](s, s.WithoutStats, "WithoutStats")
}

// stats takes a reading and checks it against what is always so.
func (s *suite) stats(id string) runtime.Stats {
	s.Helper()
	before := time.Now()
	st, err := s.statser().Stats(s.ctx, id)
	if err != nil {
		s.Fatalf("Stats: %v", err)
	}
	if st.Time.Before(before.Add(-time.Second)) || st.Time.After(time.Now().Add(time.Second)) {
		s.Errorf("a reading is from %v", st.Time)
	}
	if st.CPUTime < 0 || st.Memory == 0 || st.MemoryLimit < st.Memory || st.Processes < 1 {
		s.Errorf("a reading of a running container is %+v", st)
	}
	return st
}

// testStats: readings grow with what a container does, and count what runs in
// it.
func (s *suite) testStats() {
	id := s.settled("idle")
	before := s.stats(id)
	c := s.talk(s.ctx, id, runtime.ExecConfig{Command: s.Command("burn")})
	c.expect("burnt")
	after := s.stats(id)
	// Some systems count in steps of 10 ms.
	if used := after.CPUTime - before.CPUTime; used < burntTime-20*time.Millisecond {
		s.Errorf("after %v of work, %v more are counted", burntTime, used)
	}
	if _, ok := after.CPUSince(before); !ok || !after.Time.After(before.Time) {
		s.Errorf("a reading of %v comes after one of %v", after.Time, before.Time)
	}
	if more := int64(after.Memory) - int64(before.Memory); more < burntMemory*9/10 {
		s.Errorf("with %d bytes more in use, %d more are counted", burntMemory, more)
	}
	if more := after.Processes - before.Processes; more != 1 {
		s.Errorf("with one process more, %d more are counted", more)
	}
	if a, b := before.IO, after.IO; (a == nil) != (b == nil) || a != nil && (b.Read < a.Read || b.Written < a.Written) {
		s.Errorf("I/O is %+v, and then %+v", a, b)
	}
	_ = c.in.Close()
	if code, err := c.end(); code != 0 || err != nil {
		s.Fatalf("the command ended with %d, %v", code, err)
	}
	if st := s.stats(id); st.Processes != before.Processes || st.Memory >= after.Memory {
		s.Errorf("with nothing more to do than at first (%+v) a reading is %+v", before, st)
	}
}

func (s *suite) testStatsNotRunning() {
	_, err := s.statser().Stats(s.ctx, NewID())
	s.wantError("Stats of an unknown container", err, runtime.ErrNotFound)
	id := s.create("exit", "0")
	_, err = s.statser().Stats(s.ctx, id)
	s.wantError("Stats of a created container", err, runtime.ErrNotRunning)
	s.start(id)
	s.wait(id)
	_, err = s.statser().Stats(s.ctx, id)
	s.wantError("Stats of a stopped container", err, runtime.ErrNotRunning)
}

// testInspect: in every state there is something to be told, as a JSON object.
func (s *suite) testInspect() {
	i := ability[runtime.Inspector](s, s.WithoutInspect, "WithoutInspect")
	_, err := i.Inspect(s.ctx, NewID())
	s.wantError("Inspect of an unknown container", err, runtime.ErrNotFound)
	look := func(when, id string) {
		s.Helper()
		detail, err := i.Inspect(s.ctx, id)
		if err != nil {
			s.Fatalf("Inspect of a %s container: %v", when, err)
		}
		data, err := json.Marshal(detail)
		var object map[string]any
		if err == nil {
			err = json.Unmarshal(data, &object)
		}
		if err != nil || len(object) == 0 {
			s.Errorf("Inspect of a %s container gives %s, %v, want an object with something in it", when, data, err)
		}
	}
	id := s.create("graceful", "0")
	look("created", id)
	s.start(id)
	look("running", id)
	s.stop(id, grace)
	look("stopped", id)
}
