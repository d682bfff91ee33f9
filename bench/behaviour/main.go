//go:build linux

package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/budgiehq/budgie/balance/behaviourtest"
	"github.com/budgiehq/budgie/internal/benchreport"
	"golang.org/x/sync/errgroup"
)

func main() {
	atOnce := flag.Int("at-once", 4, "cases that run at the same time")
	only := flag.String("only", "", "`proxies` to look at, separated by commas, empty for all")
	run := flag.String("run", "", "`text` in the names of the cases to run, empty for all")
	out := flag.String("out", "docs/behaviour.md", "`file` to write the result into, empty for none")
	flag.Parse()
	if flag.NArg() > 0 || *atOnce < 1 {
		flag.Usage()
		os.Exit(2)
	}
	log.SetOutput(io.Discard) // where http.Transport tells of backends that say too much
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	text, err := measure(ctx, *atOnce, *only, *run)
	if err == nil {
		err = benchreport.Publish(text, *out, "bench/behaviour")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "behaviour:", err)
		os.Exit(1)
	}
}

// contender is a proxy that is looked at.
type contender struct {
	name string
	// version is asked for once.
	version func(context.Context) string
	subject behaviourtest.Subject
}

// measure runs all cases and returns the result as Markdown.
func measure(ctx context.Context, atOnce int, only, run string) (string, error) {
	if err := benchreport.Setup("tools/setup-bench-behaviour.sh"); err != nil {
		return "", err
	}
	base, err := os.MkdirTemp("", "behaviour-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(base)
	w := newWorkshop(base)
	contenders := []contender{budgie(), nginx(w), haproxy(w), caddy(w)}
	if only != "" {
		contenders = slices.DeleteFunc(contenders, func(c contender) bool {
			return !slices.Contains(strings.Split(strings.ToLower(only), ","), strings.ToLower(c.name))
		})
	}
	r := result{machine: []string{benchreport.Machine()}}
	for _, c := range behaviourtest.Cases() {
		if strings.Contains(c.Group+"/"+c.Name, run) {
			r.cases = append(r.cases, c)
		}
	}
	for _, c := range contenders {
		r.machine = append(r.machine, c.version(ctx))
		col, err := c.run(ctx, r.cases, atOnce)
		if err != nil {
			return "", err
		}
		r.columns = append(r.columns, col)
	}
	return r.markdown(), nil
}

// run runs cases against one proxy. What fails is run twice more by itself, when
// nothing else keeps the machine busy, and counts as passed if it passes then.
func (c contender) run(ctx context.Context, cases []behaviourtest.Case, atOnce int) (column, error) {
	col := newColumn(c.name, cases)
	var g errgroup.Group
	g.SetLimit(atOnce)
	for i, k := range cases {
		for _, f := range k.Fronts {
			g.Go(func() error {
				col.set(i, f, k.Run(ctx, c.subject, f))
				return ctx.Err()
			})
		}
	}
	if err := g.Wait(); err != nil {
		return column{}, err
	}
	for i, k := range cases {
		for _, f := range k.Fronts {
			if len(col.verdicts[i][f].Problems) == 0 {
				continue
			}
			again := k.Run(ctx, c.subject, f)
			if again.Passed() {
				again = k.Run(ctx, c.subject, f)
			}
			col.set(i, f, again)
			fmt.Fprintf(os.Stderr, "%s, %s, %s: %q\n", c.name, k.Name, f, again.Problems)
		}
	}
	return col, ctx.Err()
}
