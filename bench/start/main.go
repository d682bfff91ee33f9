//go:build linux

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"github.com/budgiehq/budgie/internal/benchreport"
	"github.com/budgiehq/budgie/internal/containerdtest"
	"github.com/budgiehq/budgie/internal/isolation"
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
	if err := prepare(); err != nil {
		fail(err)
	}
	containerdtest.Isolate() // from here on in namespaces of its own
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	text, err := measure(ctx, s)
	if err == nil {
		fmt.Print(text)
		if *out != "" {
			err = benchreport.WriteSection(*out, "bench/start", text)
		}
	}
	if err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "start:", err)
	os.Exit(1)
}

// prepare installs what is missing, before the namespaces are entered.
func prepare() error {
	if isolation.Begun() {
		return nil
	}
	if os.Geteuid() != 0 {
		return errors.New("containers need root: run it with sudo")
	}
	for _, script := range []string{"tools/setup.sh", "tools/setup-bench.sh"} {
		cmd := exec.Command("bash", script)
		cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("%s, from the root of the repository: %w", script, err)
		}
	}
	return nil
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
