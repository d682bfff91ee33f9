package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/budgiehq/budgie/internal/benchreport"
)

// result is all that was measured. What is measured against comes first in
// starts, memories and crowds, where there is a Docker.
type result struct {
	settings settings
	machine  []string
	starts   []starts
	journeys []journey
	memories []footprint
	crowds   []crowd
}

// settings are how much is measured.
type settings struct {
	rounds, many int
	// docker is false where there is none to compare with.
	docker bool
}

// starts is how long a contender took: from the command to the first answer,
// and to the command's end.
type starts struct {
	name         string
	answer, done benchreport.Sample
}

// footprint is the memory of the processes behind one container.
type footprint struct {
	name string
	memory
}

// crowd is how long a contender took to start many containers.
type crowd struct {
	name string
	took time.Duration
}

// The names by which the aims are judged.
const (
	nameDocker = "docker run -d -p"
	nameCold   = "budgie run -d, no supervisor yet"
	nameWarm   = "budgie run -d"
	nameHost   = "budgie run -d, network: host"
	nameCtr    = "ctr run -d --net-host"
	// nameCtrSeccomp has the system call filter that the others always have.
	nameCtrSeccomp = "ctr run -d --net-host --seccomp"
	nameCtrCNI     = "ctr run -d --cni --seccomp"
)

func (r result) start(name string) time.Duration {
	for _, s := range r.starts {
		if s.name == name {
			return s.answer.Median()
		}
	}
	return 0
}

func (r result) footprint(name string) memory {
	for _, f := range r.memories {
		if f.name == name {
			return f.memory
		}
	}
	return nil
}

// markdown is the section of the documentation.
func (r result) markdown() string {
	var b strings.Builder
	for _, line := range r.machine {
		fmt.Fprintf(&b, "- %s\n", line)
	}
	fmt.Fprintf(&b, "\n### From the command to the first answer\n\n%d rounds, in milliseconds.\n\n", r.settings.rounds)
	b.WriteString("| | median | p90 | of Docker | command ends (median) |\n| --- | ---: | ---: | ---: | ---: |\n")
	for _, s := range r.starts {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", s.name, ms(s.answer.Median()), ms(s.answer.P90()),
			benchreport.Times(benchreport.Ratio(s.answer.Median(), r.start(nameDocker))), ms(s.done.Median()))
	}
	fmt.Fprintf(&b, "\n### Where the time goes\n\nIn milliseconds, from the times in the log of a supervisor (`BUDGIE_LOG=debug`).\n")
	for _, j := range r.journeys {
		fmt.Fprintf(&b, "\n%s", j.markdown())
	}
	fmt.Fprintf(&b, "\n### Memory behind one running container\n\nIn MiB. PSS shares out evenly what several processes have in common.\n\n")
	b.WriteString("| | process | RSS | PSS |\n| --- | --- | ---: | ---: |\n")
	for _, f := range r.memories {
		for _, p := range f.memory {
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", f.name, p.name, mib(p.rss), mib(p.pss))
		}
		fmt.Fprintf(&b, "| | **all** | **%s** | **%s** |\n", mib(f.rss()), mib(f.pss()))
	}
	fmt.Fprintf(&b, "\n### %d containers at once\n\nUntil all of them have answered.\n\n| | all | per container |\n| --- | ---: | ---: |\n", r.settings.many)
	for _, c := range r.crowds {
		fmt.Fprintf(&b, "| `%s` | %.1f s | %s ms |\n", c.name, c.took.Seconds(), ms(c.took/time.Duration(r.settings.many)))
	}
	b.WriteString(r.aims().Markdown())
	return b.String()
}

// The aims, as shares of what Docker needs and as time above ctr.
const (
	mostOfDockerTime   = 0.6
	mostOfDockerMemory = 0.25
	mostAboveCtr       = 30 * time.Millisecond
)

func (r result) aims() benchreport.Aims {
	var all benchreport.Aims
	if r.settings.docker {
		for _, name := range []string{nameWarm, nameCold} {
			got := benchreport.Ratio(r.start(name), r.start(nameDocker))
			all.Add(fmt.Sprintf("`%s`: at most %.1f of Docker's time", name, mostOfDockerTime), benchreport.Times(got), got <= mostOfDockerTime)
		}
	}
	for _, pair := range [][2]string{{nameHost, nameCtr}, {nameHost, nameCtrSeccomp}, {nameWarm, nameCtrCNI}} {
		got := r.start(pair[0]) - r.start(pair[1])
		all.Add(fmt.Sprintf("`%s`: at most %d ms more than `%s`", pair[0], mostAboveCtr.Milliseconds(), pair[1]), fmt.Sprintf("%+.0f ms", float64(got)/1e6), got <= mostAboveCtr)
	}
	if r.settings.docker {
		docker, own := r.footprint(nameDocker), r.footprint(nameCold)
		for _, a := range []struct {
			what    string
			own     memory
			measure func(memory) int64
		}{
			{"memory (PSS) of all processes", own, memory.pss},
			{"memory (PSS) of all processes but a containerd that is there anyway", own.without("containerd"), memory.pss},
			{"memory (PSS) of Budgie's own process", own.only("budgie"), memory.pss},
		} {
			got := benchreport.Ratio(a.measure(a.own), a.measure(docker))
			all.Add(fmt.Sprintf("%s: at most %.2f of Docker's", a.what, mostOfDockerMemory), benchreport.Times(got), got <= mostOfDockerMemory)
		}
	}
	return all
}

func ms(d time.Duration) string { return fmt.Sprintf("%.0f", float64(d)/float64(time.Millisecond)) }

func mib(n int64) string { return fmt.Sprintf("%.1f", float64(n)/(1<<20)) }
