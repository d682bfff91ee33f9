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
	"github.com/budgiehq/budgie/internal/lan"
)

func main() {
	if err := benchreport.Setup("tools/setup.sh", "tools/setup-bench-sync.sh"); err != nil {
		fail(err)
	}
	lan.Isolate(lan.Roles{"serve": serve, "receive": receive, "follow": follow}) // from here on in namespaces of its own
	s := settings{rate: 10}
	flag.IntVar(&s.rounds, "rounds", 2, "how often each way is measured")
	flag.IntVar(&s.files, "files", 15_000, "small files in the tree")
	flag.IntVar(&s.big, "big", 1024, "size of the big file in `MiB`")
	flag.IntVar(&s.many, "many", 100_000, "files in the tree of many")
	flag.IntVar(&s.idle, "idle", 60, "files written to a tree at rest")
	flag.IntVar(&s.burst, "burst", 4000, "files written at 1000 a second")
	out := flag.String("out", "docs/benchmarks.md", "`file` to write the result into, empty for none")
	flag.Parse()
	if flag.NArg() > 0 || s.rounds < 1 || s.files < changedFiles || s.big < 1 || s.many < 1 || s.idle < 1 || s.burst < 1 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	text, err := measure(ctx, s)
	if err == nil {
		err = benchreport.Publish(text, *out, "bench/sync")
	}
	if err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "sync:", err)
	os.Exit(1)
}

// measure does everything and returns the result as Markdown.
func measure(ctx context.Context, s settings) (string, error) {
	r := result{settings: s}
	err := lan.In("sync-", func(t lan.TB) error {
		w, err := newWorld(ctx, t, s)
		if err != nil {
			return err
		}
		r.machine = w.machine()
		for _, part := range []func(*result) error{w.measureTree, w.measureMany, w.measureSlow, w.measureVisible} {
			if err := part(&r); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	return r.markdown(), nil
}
