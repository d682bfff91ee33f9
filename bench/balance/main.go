//go:build linux

package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
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
	flag.StringVar(&s.only, "only", "", "measure only the proxies whose names are in this `list` (with commas)")
	short := flag.Bool("short", false, "for development: 1 KiB over 64 connections kept alive, and new ones; one round unless -rounds says otherwise")
	out := flag.String("out", "docs/benchmarks.md", "`file` to write the result into, empty for none")
	flag.Parse()
	if *short {
		s.loads = shortLoads()
		if !given("rounds") {
			s.rounds = 1
		}
	} else {
		s.loads = allLoads()
	}
	if flag.NArg() > 0 || s.rounds < 1 || s.each < time.Second || s.idle <= 0 {
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

func given(name string) (yes bool) {
	flag.Visit(func(f *flag.Flag) { yes = yes || f.Name == name })
	return yes
}

// wants reports whether a proxy is to be measured.
func (s settings) wants(name string) bool {
	if s.only == "" {
		return true
	}
	for one := range strings.SplitSeq(s.only, ",") {
		if strings.EqualFold(strings.TrimSpace(one), name) {
			return true
		}
	}
	return false
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "balance:", err)
	os.Exit(1)
}

// say tells whoever waits how far it is.
func say(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
