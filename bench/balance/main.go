//go:build linux

package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"syscall"
	"time"

	"github.com/budgiehq/budgie/internal/benchreport"
	"github.com/budgiehq/budgie/internal/isolation"
)

func main() {
	if role := os.Getenv(roleVariable); role != "" {
		if err := play(role); err != nil {
			fail(err)
		}
		return
	}
	if err := benchreport.Setup("tools/setup-bench-balance.sh"); err != nil {
		fail(err)
	}
	isolation.Isolate() // from here on in namespaces of its own
	var s settings
	flag.IntVar(&s.rounds, "rounds", 5, "how often each proxy is measured in each way")
	flag.DurationVar(&s.each, "each", 3*time.Second, "how long, in whole seconds, one measurement takes")
	flag.DurationVar(&s.idle, "idle", 20*time.Second, "how long the idle proxy is looked at")
	only := flag.String("only", "", "only the proxies whose names in the report match this `regexp`, as in '^Budgie|^HAProxy'")
	loads := flag.String("loads", "", "only the loads whose headings in the report match this `regexp`, as in '^1 KiB, 64 .*alive'")
	out := flag.String("out", "docs/benchmarks.md", "`file` to write the result into, empty for none")
	flag.Parse()
	which, err := regexp.Compile(*loads)
	if err != nil {
		fail(fmt.Errorf("-loads: %w", err))
	}
	if s.only, err = regexp.Compile(*only); err != nil {
		fail(fmt.Errorf("-only: %w", err))
	}
	s.loads = slices.DeleteFunc(allLoads(), func(l load) bool { return !which.MatchString(l.String()) })
	if flag.NArg() > 0 || len(s.loads) == 0 || s.rounds < 1 || s.each < time.Second || s.idle <= 0 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	text, err := measure(ctx, s)
	if err == nil {
		err = benchreport.Publish(text, *out, "bench/balance")
	}
	if err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "balance:", err)
	os.Exit(1)
}

// say tells whoever waits how far it is.
func say(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
