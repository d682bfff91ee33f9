//go:build linux

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/budgiehq/budgie/internal/benchreport"
	"github.com/budgiehq/budgie/internal/containerdtest"
)

func main() {
	s := settings{docker: true}
	flag.IntVar(&s.rounds, "rounds", 20, "how often each command is measured")
	flag.IntVar(&s.many, "many", 50, "how many containers to start at once")
	out := flag.String("out", "docs/benchmarks.md", "`file` to write the result into, empty for none")
	flag.Parse()
	if flag.NArg() > 0 || s.rounds < 1 || s.many < 1 {
		fmt.Fprintln(os.Stderr, "usage: start [-rounds 20] [-many 50] [-out docs/benchmarks.md]")
		os.Exit(2)
	}
	if err := benchreport.Setup("tools/setup.sh", "tools/setup-bench.sh"); err != nil {
		fail(err)
	}
	containerdtest.Isolate() // from here on in namespaces of its own
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	text, err := measure(ctx, s)
	if err == nil {
		err = benchreport.Publish(text, *out, "bench/start")
	}
	if err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "start:", err)
	os.Exit(1)
}

// measure does everything and returns the result as Markdown.
func measure(ctx context.Context, s settings) (text string, err error) {
	w, err := newWorld(ctx, s)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	r := result{settings: s, machine: w.machine(ctx)}
	if r.starts, err = w.measureStarts(ctx, s.rounds); err != nil {
		return "", err
	}
	if r.journeys, err = w.measureSteps(ctx, s.rounds); err != nil {
		return "", err
	}
	if r.memories, err = w.measureMemory(ctx); err != nil {
		return "", err
	}
	if r.crowds, err = w.measureMany(ctx, s.many); err != nil {
		return "", err
	}
	return r.markdown(), nil
}
