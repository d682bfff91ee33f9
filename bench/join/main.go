//go:build linux

package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/budgiehq/budgie/internal/benchreport"
	"github.com/budgiehq/budgie/internal/containerdtest"
	"github.com/budgiehq/budgie/internal/lan"
)

func main() {
	var s settings
	flag.IntVar(&s.rounds, "rounds", 7, "how often each way is measured")
	flag.IntVar(&s.limited, "limited", 3, "how often each way is measured over links with a limited rate")
	flag.IntVar(&s.size, "size", 300, "size of the image in `MB`")
	flag.IntVar(&s.rate, "rate", 25, "rate of the limited links in `MB` per second")
	out := flag.String("out", "docs/benchmarks.md", "`file` to write the result into, empty for none")
	flag.Parse()
	if flag.NArg() > 0 || s.rounds < 1 || s.limited < 1 || s.size < layers || s.rate < 1 {
		fmt.Fprintln(os.Stderr, "usage: join [-rounds 7] [-limited 3] [-size 300] [-rate 25] [-out docs/benchmarks.md]")
		os.Exit(2)
	}
	if err := benchreport.Setup("tools/setup.sh", "tools/setup-bench-join.sh"); err != nil {
		fail(err)
	}
	// Every host has the containerd that setup.sh builds.
	if err := os.Setenv(containerdtest.VersionVariable, string(containerdtest.Latest)); err != nil {
		fail(err)
	}
	lan.Isolate(nil) // from here on in namespaces of its own
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	text, err := measure(ctx, s)
	if err == nil {
		err = benchreport.Publish(text, *out, "bench/join")
	}
	if err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "join:", err)
	os.Exit(1)
}

// measure does everything and returns the result as Markdown.
func measure(ctx context.Context, s settings) (string, error) {
	r := result{settings: s}
	err := lan.In("join-", func(t lan.TB) error {
		w, err := newWorld(ctx, t, s)
		if err != nil {
			return err
		}
		if r.machine, err = w.machine(ctx); err != nil {
			return err
		}
		if r.whole, r.changed, err = w.measureWhole(ctx); err != nil {
			return err
		}
		r.slow, err = w.measureSlow(ctx)
		return err
	})
	if err != nil {
		return "", err
	}
	return r.markdown(), nil
}
