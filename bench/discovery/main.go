//go:build linux

package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"time"

	"github.com/budgiehq/budgie/internal/benchreport"
	"github.com/budgiehq/budgie/internal/isolation"
	"github.com/budgiehq/budgie/internal/lan"
)

func main() {
	lan.Isolate(lan.Roles{"node": node}) // from here on in namespaces of its own
	var s settings
	flag.IntVar(&s.rounds, "rounds", 20, "how often what takes a second is measured")
	flag.IntVar(&s.few, "few", 5, "how often what takes longer is measured")
	flag.DurationVar(&s.idle, "idle", 4*time.Minute, "for how long packets are counted")
	out := flag.String("out", "docs/benchmarks.md", "`file` to write the result into, empty for none")
	flag.Parse()
	if flag.NArg() > 0 || s.rounds < 1 || s.few < 1 || s.idle < time.Second {
		fmt.Fprintln(os.Stderr, "usage: discovery [-rounds 20] [-few 5] [-idle 4m] [-out docs/benchmarks.md]")
		os.Exit(2)
	}
	err := ready()
	var text string
	if err == nil {
		text, err = measure(s)
	}
	if err == nil {
		err = benchreport.Publish(text, *out, "bench/discovery")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "discovery:", err)
		os.Exit(1)
	}
}

// ready returns an error if there can be no laboratory here.
func ready() error {
	if !isolation.Isolated() {
		return errors.New("network namespaces need root: run it with sudo")
	}
	if _, err := exec.LookPath("nft"); err != nil {
		return fmt.Errorf("run tools/setup.sh first: %w", err)
	}
	return nil
}

// measure does everything and returns the result as Markdown.
func measure(s settings) (string, error) {
	r := result{settings: s, machine: machine()}
	for _, do := range []func(lan.TB, *result){arrivalsAndAddresses, comingBack, crowd} {
		err := lan.In("discovery-", func(t lan.TB) error {
			do(t, &r)
			return nil
		})
		if err != nil {
			return "", err
		}
	}
	return r.markdown(), nil
}

// arrivalsAndAddresses measures how soon a host learns of what another one does.
func arrivalsAndAddresses(t lan.TB, r *result) {
	p := newPair(t)
	p.arrivals(r)
	p.addresses(r)
}
