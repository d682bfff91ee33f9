package main

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/budgiehq/budgie/internal/benchreport"
)

// step is a part of a start, and how long it took in each round.
type step struct {
	name string
	took benchreport.Sample
}

// journey is where the time of a contender goes, step by step.
type journey struct {
	name  string
	steps []step
}

// The steps before and after those that the log has.
const (
	firstStep = "command and supervisor, until the container is created"
	lastStep  = "until the first answer"
)

// mark is the beginning of a step.
type mark struct {
	name string
	at   time.Time
}

// readSteps returns the beginnings of the steps of a container's start from the
// log that a supervisor writes at level debug.
func readSteps(log io.Reader) ([]mark, error) {
	var all []mark
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		text := lines.Text()
		if !strings.Contains(text, " msg=step ") || !strings.Contains(text, " op=create ") && !strings.Contains(text, " op=start ") {
			continue
		}
		stamp, _, _ := strings.Cut(strings.TrimPrefix(text, "time="), " ")
		at, err := time.Parse(time.RFC3339Nano, stamp)
		_, name, found := strings.Cut(text, " step=")
		if err != nil || !found {
			return nil, fmt.Errorf("the log has %q", text)
		}
		all = append(all, mark{strings.Trim(name, `"`), at})
	}
	return all, lines.Err()
}

// add takes a round: when the command began, when its steps did, and when there
// was an answer.
func (j *journey) add(began time.Time, marks []mark, answer time.Time) {
	name := firstStep
	for _, m := range append(slices.Clone(marks), mark{"", answer}) {
		j.took(name, m.at.Sub(began))
		name, began = m.name, m.at
		if len(marks) > 0 && m == marks[len(marks)-1] {
			name += ", " + lastStep
		}
	}
}

func (j *journey) took(name string, d time.Duration) {
	i := slices.IndexFunc(j.steps, func(s step) bool { return s.name == name })
	if i < 0 {
		i = len(j.steps)
		j.steps = append(j.steps, step{name: name})
	}
	j.steps[i].took = append(j.steps[i].took, d)
}

// least is what a step takes that has a line of its own. The log says
// milliseconds.
const least = 2 * time.Millisecond

// markdown is the table of a journey. Short steps share a line.
func (j *journey) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "| `%s` | median |\n| --- | ---: |\n", j.name)
	var short int
	var rest time.Duration
	for _, s := range j.steps {
		if m := s.took.Median(); m >= least {
			fmt.Fprintf(&b, "| %s | %s |\n", s.name, ms(m))
		} else {
			short++
			rest += m
		}
	}
	if short > 0 {
		fmt.Fprintf(&b, "| %d shorter steps | %s |\n", short, ms(rest))
	}
	return b.String()
}
