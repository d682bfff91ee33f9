package balance

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// Nobody is picked who would take longer than all others: the worse of two never
// is. Newcomers are tried before anybody who is known.
func TestPowerOfTwoAvoidsTheWorst(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := testPool(powerOfTwo{}, rapid.IntRange(2, 6).Draw(t, "members"))
		now := time.Now()
		for _, m := range p.members {
			m.active = rapid.IntRange(0, 9).Draw(t, "active")
			m.latency.asked(now)
			m.latency.answered(now, time.Duration(rapid.IntRange(0, 3000).Draw(t, "ms"))*time.Millisecond)
		}
		f := filter{now: now}
		for range 20 {
			i := powerOfTwo{}.choose(p.members, 0, f)
			worse := 0
			for _, m := range p.members {
				if m.expectedWait(now) >= p.members[i].expectedWait(now) {
					worse++
				}
			}
			if worse < 2 { // itself and another
				t.Fatalf("%s is the worst, and was picked", p.members[i].backend.ID)
			}
		}
	})
}

// Under load the fast ones get the most; a slow one gets little, and something.
func TestPowerOfTwoFollowsLatency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := testPool(powerOfTwo{}, 3)
		delays := map[string]time.Duration{"b0": 10 * time.Millisecond, "b1": 10 * time.Millisecond, "b2": 500 * time.Millisecond}
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for end := time.Now().Add(time.Minute); time.Now().Before(end); {
					m := p.pick(nil, 0)
					took := delays[m.backend.ID]
					<-time.After(took)
					p.answered(m, answer{took: took})
					p.release(m, result{answered: true})
				}
			})
		}
		wg.Wait()
		s := p.status()
		fast := s[0].Requests + s[1].Requests
		if slow := s[2].Requests; slow == 0 || slow > fast/100 {
			t.Errorf("the slow one got %d, the fast ones %d and %d", slow, s[0].Requests, s[1].Requests)
		}
		if s[0].Requests < fast/3 || s[1].Requests < fast/3 {
			t.Errorf("equally fast ones got %d and %d", s[0].Requests, s[1].Requests)
		}
	})
}

// One who was slow is tried again after a while, though it is the worst of two.
func TestPowerOfTwoStarvesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := testPool(powerOfTwo{}, 2)
		was := p.members[0]
		was.latency.asked(time.Now())
		was.latency.answered(time.Now(), maxLatency)
		began := time.Now()
		for {
			m := p.pick(nil, 0)
			if m == was {
				break
			}
			<-time.After(100 * time.Millisecond)
			p.answered(m, answer{took: 100 * time.Millisecond})
			p.release(m, result{answered: true})
			if time.Since(began) > 2*time.Minute {
				t.Fatalf("not tried again: it counts for %v s after two minutes", was.latency.at(time.Now()))
			}
		}
		if waited := time.Since(began); waited < latencyDecay {
			t.Errorf("tried again after %v already", waited)
		}
	})
}

// Neither who hangs nor who fails at once draws requests.
func TestPowerOfTwoIsNotDrawnToFailures(t *testing.T) {
	for name, handle := range map[string]func(p *pool, m *member){
		"hangs": func(*pool, *member) {},
		"hangs until the client leaves": func(p *pool, m *member) {
			<-time.After(time.Second)
			p.release(m, result{waited: time.Second})
		},
		"fails at once": func(p *pool, m *member) { p.release(m, result{err: errTest, unreachable: true}) },
		"answers 500 at once": func(p *pool, m *member) {
			p.answered(m, answer{took: time.Microsecond, failed: true})
			p.release(m, result{answered: true})
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := testPool(powerOfTwo{}, 2)
				bad, good := p.members[0], p.members[1]
				for _, m := range p.members {
					p.pick([]*member{p.members[1-slices.Index(p.members, m)]}, 0)
					p.answered(m, answer{took: 20 * time.Millisecond})
					p.release(m, result{answered: true})
				}
				var picked int
				for began := time.Now(); time.Since(began) < 5*time.Minute; {
					switch m := p.pick(nil, 0); m {
					case bad:
						picked++
						handle(p, m)
					case good:
						<-time.After(20 * time.Millisecond)
						p.answered(m, answer{took: 20 * time.Millisecond})
						p.release(m, result{answered: true})
					}
				}
				// One try in some seconds, of 15000 requests.
				if picked > 100 {
					t.Errorf("it got %d requests in five minutes", picked)
				}
			})
		})
	}
}

// At the end of all requests nothing is awaited, however they ended.
func TestLatencyCountsEnds(t *testing.T) {
	p := testPool(powerOfTwo{}, 1)
	m := p.members[0]
	for _, end := range []func(){
		func() { p.release(m, result{}) },
		func() { p.release(m, result{err: errTest}) },
		func() { p.release(m, result{err: errTest, blameless: true}) },
		func() { p.answered(m, answer{}); p.release(m, result{answered: true, err: errTest}) },
		func() { p.answered(m, answer{failed: true}); p.release(m, result{answered: true}) },
		func() { p.connected(m, time.Second); p.served(m, time.Now()); p.release(m, result{answered: true}) },
		func() { p.release(m, result{answered: true, silent: true}) },
		func() { p.release(m, result{answered: true, silent: true, shed: true}) },
	} {
		p.pick(nil, 0)
		if m.latency.waiting != 1 {
			t.Fatalf("%d are awaited during a request", m.latency.waiting)
		}
		end()
		if m.latency.waiting != 0 {
			t.Errorf("%d are awaited at the end", m.latency.waiting)
		}
	}
}

func TestLatencyAverage(t *testing.T) {
	now := time.Now()
	var l latency
	tell := func(after, took time.Duration) float64 {
		l.asked(now)
		now = now.Add(after)
		l.answered(now, took)
		return l.at(now)
	}
	if got := tell(time.Second, 100*time.Millisecond); got != 0.1 {
		t.Errorf("after one answer in 100 ms the average is %v s", got)
	}
	if got := tell(time.Second, time.Second); got != 1 {
		t.Errorf("a peak of 1 s is followed to %v s", got)
	}
	if got := tell(latencyDecay, 0); got != 1 {
		t.Errorf("an answer that says nothing made it %v s", got)
	}
	if got := tell(latencyDecay, 100*time.Millisecond); got < 0.42 || got > 0.44 { // 1/e + 0.1 (1 - 1/e)
		t.Errorf("a quick answer after %v brought it to %v s", latencyDecay, got)
	}
	if got := l.at(now.Add(time.Minute)); got > 0.002 {
		t.Errorf("after a minute without requests it is %v s", got)
	}
}
