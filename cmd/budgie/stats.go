package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/budgiehq/budgie"
	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/runtime"
	"golang.org/x/term"
)

// statsEvery is how often readings are taken.
const statsEvery = time.Second

func statsCommand() *command {
	c := &command{
		name: "stats",
		args: "[-no-stream] [-format table|json] [ID|NAME…]",
		summary: "Show what running containers use, every second, all without arguments.\n" +
			"100 % of CPU is one processor.",
		example: "budgie stats\nbudgie stats -no-stream -format json web | jq '.[0].memory_bytes'",
	}
	c.run = func(ctx context.Context, a *app, args []string) error {
		fs := c.flags()
		once := fs.Bool("no-stream", false, "show it once, after a second, and end")
		format := fs.String("format", "table", "`format` of the list: table, json")
		refs, err := c.parse(a, fs, args)
		if err != nil {
			return err
		}
		if *format != "table" && *format != "json" {
			return c.usagef("-format is table or json, not %q", *format)
		}
		show := a.printStats
		switch {
		case *format == "json":
			show = func(rows []usage) error { return printJSON(a.stdout, rows, usageJSONOf) }
		case !*once && term.IsTerminal(int(os.Stdout.Fd())):
			show = a.redraw()
		}
		return a.withClient(slog.LevelWarn, func(client *budgie.Client) error {
			w := &watch{client: client, refs: refs, before: map[string]runtime.Stats{}}
			if *once {
				return w.once(ctx, show)
			}
			return w.stream(ctx, show)
		})
	}
	return c
}

// usage is a row: what a container uses.
type usage struct {
	container lifecycle.Container
	now       runtime.Stats
	// cpu is in processors, and known where hasCPU is set.
	cpu    float64
	hasCPU bool
	// err says why there is nothing else.
	err error
}

// watch takes readings of containers.
type watch struct {
	client *budgie.Client
	// refs name the containers, all running ones where it is empty. They become
	// ids.
	refs   []string
	before map[string]runtime.Stats
}

// once shows what two readings make.
func (w *watch) once(ctx context.Context, show func([]usage) error) error {
	if err := w.resolve(ctx); err != nil {
		return err
	}
	if _, err := w.read(ctx); err != nil {
		return err
	}
	t := time.NewTimer(statsEvery)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	rows, err := w.read(ctx)
	if err != nil {
		return err
	}
	return errors.Join(show(rows), problems(rows))
}

// stream shows readings until ctx ends, or none of the containers that were
// named runs any more.
func (w *watch) stream(ctx context.Context, show func([]usage) error) error {
	if err := w.resolve(ctx); err != nil {
		return err
	}
	t := time.NewTicker(statsEvery)
	defer t.Stop()
	var wrong error // with the last rows
	for {
		rows, err := w.read(ctx)
		if ctx.Err() != nil {
			return wrong
		}
		if err != nil {
			return err
		}
		if len(rows) == 0 && len(w.refs) > 0 {
			return nil
		}
		if err := show(rows); err != nil {
			return err
		}
		if wrong = problems(rows); wrong != nil && len(w.refs) > 0 {
			return wrong
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return wrong
		}
	}
}

// resolve checks that the containers that were named are there and run.
func (w *watch) resolve(ctx context.Context) error {
	var errs []error
	for i, ref := range w.refs {
		rec, err := w.client.Get(ctx, ref)
		if err == nil && rec.State != lifecycle.Running {
			err = fmt.Errorf("container %s: %w (it is %s)", rec.Name, runtime.ErrNotRunning, rec.State)
		}
		w.refs[i] = rec.ID
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// read takes a reading of every container that runs.
func (w *watch) read(ctx context.Context) ([]usage, error) {
	recs, err := w.client.List(ctx)
	if err != nil {
		return nil, err
	}
	var all []usage
	for _, rec := range recs {
		if rec.State == lifecycle.Running && w.wants(rec.ID) {
			all = append(all, usage{container: rec})
		}
	}
	var wg sync.WaitGroup
	for i := range all {
		u := &all[i]
		wg.Go(func() { u.now, u.err = w.client.Stats(ctx, u.container.ID) })
	}
	wg.Wait()
	now := make(map[string]runtime.Stats)
	var rows []usage
	for _, u := range all {
		id := u.container.ID
		if errors.Is(u.err, runtime.ErrNotRunning) || errors.Is(u.err, runtime.ErrNotFound) || errors.Is(u.err, budgie.ErrNotFound) {
			continue // it ended meanwhile
		}
		if u.err == nil {
			u.cpu, u.hasCPU = u.now.CPUSince(w.before[id])
			now[id] = u.now
		}
		rows = append(rows, u)
	}
	w.before = now
	return rows, nil
}

func (w *watch) wants(id string) bool {
	if len(w.refs) == 0 {
		return true
	}
	for _, ref := range w.refs {
		if ref == id {
			return true
		}
	}
	return false
}

// problems are the errors of all rows.
func problems(rows []usage) error {
	var errs []error
	for _, u := range rows {
		errs = append(errs, u.err)
	}
	return errors.Join(errs...)
}

func (a *app) printStats(rows []usage) error {
	writeStats(a.stdout, rows)
	return nil
}

func writeStats(w io.Writer, rows []usage) {
	t := table{header: []string{"NAME", "CPU %", "MEM / LIMIT", "MEM %", "I/O", "PIDS"}}
	for _, u := range rows {
		name := shorten(u.container.Name, 16)
		if u.err != nil {
			t.add(name, "-", "-", "-", "-", "-")
			continue
		}
		cpu, disk := "-", "-"
		if u.hasCPU {
			cpu = percent(u.cpu)
		}
		if u.now.IO != nil {
			disk = size(u.now.IO.Read) + " / " + size(u.now.IO.Written)
		}
		t.add(name, cpu, size(u.now.Memory)+" / "+size(u.now.MemoryLimit), percent(u.now.MemoryShare()), disk, strconv.Itoa(u.now.Processes))
	}
	t.write(w, false)
}

// clearScreen makes room for a table in place of the one before. Control sequences
// of ECMA-48: CUP goes to the top left, ED clears from there to the end.
const clearScreen = "\x1b[H\x1b[J"

// redraw returns a function that shows a table in place of the one before.
func (a *app) redraw() func([]usage) error {
	return func(rows []usage) error {
		var b bytes.Buffer
		b.WriteString(clearScreen)
		writeStats(&b, rows)
		_, _ = a.stdout.Write(b.Bytes()) // it remembers its errors
		return nil
	}
}

// percent writes a share.
func percent(share float64) string { return strconv.FormatFloat(100*share, 'f', 2, 64) + "%" }

// size writes a number of bytes with a binary prefix and three digits.
func size(n uint64) string {
	if n < 1024 {
		return strconv.FormatUint(n, 10) + "B"
	}
	value, unit := float64(n)/1024, 0
	const units = "KMGTPE"
	for value >= 999.5 && unit < len(units)-1 {
		value /= 1024
		unit++
	}
	return strconv.FormatFloat(value, 'g', 3, 64) + units[unit:unit+1] + "iB"
}

// usageJSON is the JSON form of a row. Its names are an interface: scripts rely
// on them. What is not known is null or, with an error, left out.
type usageJSON struct {
	ID            string   `json:"id"`
	Name          string   `json:"name"`
	CPUPercent    *float64 `json:"cpu_percent"`
	MemoryPercent *float64 `json:"memory_percent"`
	*runtime.Stats
	Error string `json:"error,omitempty"`
}

func usageJSONOf(u usage) usageJSON {
	j := usageJSON{ID: u.container.ID, Name: u.container.Name}
	if u.err != nil {
		j.Error = u.err.Error()
		return j
	}
	j.Stats = &u.now
	share := 100 * u.now.MemoryShare()
	j.MemoryPercent = &share
	if u.hasCPU {
		cpu := 100 * u.cpu
		j.CPUPercent = &cpu
	}
	return j
}
