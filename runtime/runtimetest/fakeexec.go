package runtimetest

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/budgiehq/budgie/runtime"
)

// Exec runs a command as WithExec says.
func (f *Fake) Exec(ctx context.Context, id string, cfg runtime.ExecConfig) (int, error) {
	ctx, done, err := f.enter(ctx, "exec", id)
	if err != nil {
		return 0, err
	}
	defer done()
	c, run, err := f.findRunning(id)
	if err != nil {
		return 0, f.errorf("exec", id, err)
	}
	if f.opts.exec != nil {
		return f.opts.exec(ctx, id, cfg)
	}
	x := &fakeExec{ExecConfig: cfg, c: c, run: run, out: writerOrDiscard(cfg.Stdout), err: writerOrDiscard(cfg.Stderr)}
	if cfg.TTY != nil {
		x.out = &onTTY{x.out}
		x.err = x.out
	}
	code, err := x.do(ctx)
	return code, f.errorf("exec", id, err)
}

// findRunning returns a container that runs.
func (f *Fake) findRunning(id string) (*fakeContainer, *fakeRun, error) {
	c, err := f.find(id)
	if err != nil {
		return nil, nil, err
	}
	f.world.mu.Lock()
	defer f.world.mu.Unlock()
	if c.run == nil {
		return nil, nil, runtime.ErrNotRunning
	}
	return c, c.run, nil
}

// writerOrDiscard stands in for an output that nobody wants.
func writerOrDiscard(w io.Writer) io.Writer {
	if w == nil {
		return io.Discard
	}
	return w
}

// onTTY ends lines as a terminal does.
type onTTY struct{ w io.Writer }

// Write writes.
func (t *onTTY) Write(p []byte) (int, error) {
	if _, err := t.w.Write(bytes.ReplaceAll(p, []byte("\n"), []byte("\r\n"))); err != nil {
		return 0, err
	}
	return len(p), nil
}

// fakeExec is a command under way.
type fakeExec struct {
	runtime.ExecConfig
	c        *fakeContainer
	run      *fakeRun
	out, err io.Writer
}

// missing is what no Fake's container has.
const missing = "no-such"

// do does what the verbs of Program do that need no process.
func (x *fakeExec) do(ctx context.Context) (int, error) {
	switch {
	case len(x.Command) == 0 || x.Command[0] == "":
		return 0, fmt.Errorf("%w: there is none", runtime.ErrCommand)
	case x.Command[0] == "/" || strings.Contains(x.Command[0], missing):
		return 0, fmt.Errorf("%w: there is no %q", runtime.ErrCommand, x.Command[0])
	case strings.Contains(x.Workdir, missing):
		return 0, fmt.Errorf("%w: there is no %q", runtime.ErrCommand, x.Workdir)
	}
	defer x.use(1, 0, 0)()
	verb, args := fakeVerb(x.Command)
	switch verb {
	case "exit":
		return atoi(args), nil
	case "die":
		return 128 + atoi(args), nil
	case "print":
		for i, line := range args {
			fmt.Fprintln([]io.Writer{x.out, x.err}[i%2], line)
		}
	case "count":
		for i := range atoi(args) {
			fmt.Fprintln(x.out, i)
		}
	case "env":
		for _, key := range args {
			fmt.Fprintf(x.out, "%s=%s\n", key, x.env(key))
		}
	case "cat":
		return x.input(ctx, func(data []byte) { _, _ = x.out.Write(data) }, nil)
	case "burn":
		defer x.use(0, burntTime, burntMemory)()
		fmt.Fprintln(x.out, "burnt")
		return x.input(ctx, func([]byte) {}, nil)
	case "tty":
		return x.onTerminal(ctx, atoi(args))
	case "sleep", "stubborn":
		if verb == "stubborn" {
			fmt.Fprintln(x.out, "ready")
		}
		select {
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		case <-x.run.done:
			return 128 + 9, nil
		}
	}
	return 0, nil
}

// use counts what the command uses, and gives all but the time back.
func (x *fakeExec) use(commands int, cpu time.Duration, memory uint64) (giveBack func()) {
	w := x.c.world
	w.mu.Lock()
	defer w.mu.Unlock()
	x.c.commands += commands
	x.c.cpu += cpu
	x.c.memory += memory
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		x.c.commands -= commands
		x.c.memory -= memory
	}
}

func (x *fakeExec) env(key string) string {
	for _, kv := range slices.Backward(x.Env) {
		if k, v, _ := strings.Cut(kv, "="); k == key {
			return v
		}
	}
	if key == "TERM" && x.TTY != nil {
		return "xterm"
	}
	return x.c.env(x.run, key)
}

// input hands on what is read until its end, or that of ctx or the container,
// and the sizes that the terminal gets meanwhile.
func (x *fakeExec) input(ctx context.Context, take func([]byte), resized func(runtime.TTYSize)) (int, error) {
	chunks := make(chan []byte)
	over := make(chan struct{})
	defer close(over)
	go func() {
		defer close(chunks)
		if x.Stdin == nil {
			return
		}
		for {
			buf := make([]byte, 32<<10)
			n, err := x.Stdin.Read(buf)
			select {
			case chunks <- buf[:n]:
			case <-over:
				return
			}
			if err != nil {
				return
			}
		}
	}()
	var sizes <-chan runtime.TTYSize
	if x.TTY != nil {
		sizes = x.TTY.Resizes
	}
	for {
		select {
		case data, more := <-chunks:
			if !more {
				return 0, nil
			}
			take(data)
		case size, more := <-sizes:
			if !more {
				sizes = nil
			} else if resized != nil {
				resized(size)
			}
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		case <-x.run.done:
			return 128 + 9, nil
		}
	}
}

// onTerminal is the verb "tty".
func (x *fakeExec) onTerminal(ctx context.Context, code int) (int, error) {
	if x.TTY == nil {
		fmt.Fprintln(x.err, "stdin is no terminal")
		return 100, nil
	}
	size := func(what string, s runtime.TTYSize) { fmt.Fprintf(x.out, "%s %dx%d\n", what, s.Rows, s.Columns) }
	size("terminal", x.TTY.Size)
	fmt.Fprintln(x.out, "TERM is", x.env("TERM"))
	var typed bytes.Buffer
	line := func(text string) { fmt.Fprintf(x.out, "got %q\n", text) }
	ended, err := x.input(ctx, func(data []byte) {
		typed.Write(data)
		for bytes.ContainsRune(typed.Bytes(), '\n') {
			text, _ := typed.ReadString('\n')
			line(strings.TrimSuffix(text, "\n"))
		}
	}, func(s runtime.TTYSize) { size("resized", s) })
	if err != nil || ended != 0 {
		return ended, err
	}
	for lines := bufio.NewScanner(&typed); lines.Scan(); {
		line(lines.Text())
	}
	fmt.Fprintln(x.out, "input is over")
	return code, nil
}
