package runtimetest

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/runtime"
)

func (s *suite) testExec() {
	spec := s.Spec("sleep")
	spec.Environment = append(spec.Environment, "SUITE_VARIABLE=a value")
	id := s.createSpec(spec)
	s.start(id)
	e := s.execer()
	for _, want := range []int{0, 1, 42, 255} {
		code, err := e.Exec(s.ctx, id, runtime.ExecConfig{Command: s.Command("exit", strconv.Itoa(want))})
		if err != nil || code != want {
			s.Errorf("Exec of exit %d gives %d, %v", want, code, err)
		}
	}
	if code, err := e.Exec(s.ctx, id, runtime.ExecConfig{Command: s.Command("die", "9")}); err != nil || code != 128+9 {
		s.Errorf("Exec of a command that a signal ends gives %d, %v", code, err)
	}
	var out, errs bytes.Buffer
	code, err := e.Exec(s.ctx, id, runtime.ExecConfig{Command: s.Command("print", "to out", "to err"), Stdout: &out, Stderr: &errs})
	if err != nil || code != 0 || out.String() != "to out\n" || errs.String() != "to err\n" {
		s.Errorf("Exec of print gives %d, %v, %q, %q", code, err, &out, &errs)
	}
	out.Reset()
	code, err = e.Exec(s.ctx, id, runtime.ExecConfig{Command: s.Command("cat"), Stdin: strings.NewReader("input"), Stdout: &out})
	if err != nil || code != 0 || out.String() != "input" {
		s.Errorf("Exec of cat gives %d, %v, %q", code, err, &out)
	}
	out.Reset()
	code, err = e.Exec(s.ctx, id, runtime.ExecConfig{Command: s.Command("env", "SUITE_VARIABLE"), Stdout: &out})
	if err != nil || code != 0 || out.String() != "SUITE_VARIABLE=a value\n" {
		s.Errorf("Exec of env gives %d, %v, %q", code, err, &out)
	}
	if _, err := e.Exec(s.ctx, id, runtime.ExecConfig{}); err == nil {
		s.Error("Exec without a command gives no error")
	}
	if st := s.status(id); st.State != lifecycle.Running {
		s.Fatalf("Exec ended the container: %+v", st)
	}
}

func (s *suite) testExecNotRunning() {
	e := s.execer()
	cfg := runtime.ExecConfig{Command: s.Command("exit", "0")}
	_, err := e.Exec(s.ctx, NewID(), cfg)
	s.wantError("Exec in an unknown container", err, runtime.ErrNotFound)
	id := s.create("exit", "0")
	_, err = e.Exec(s.ctx, id, cfg)
	s.wantError("Exec in a created container", err, runtime.ErrNotRunning)
	s.start(id)
	s.wait(id)
	_, err = e.Exec(s.ctx, id, cfg)
	s.wantError("Exec in a stopped container", err, runtime.ErrNotRunning)
}

func (s *suite) testExecCancelled() {
	id := s.run("sleep")
	ctx, cancel := context.WithTimeout(s.ctx, 50*time.Millisecond)
	defer cancel()
	_, err := s.execer().Exec(ctx, id, runtime.ExecConfig{Command: s.Command("stubborn")})
	s.wantError("Exec whose context ends", err, context.DeadlineExceeded)
	if st := s.status(id); st.State != lifecycle.Running {
		s.Fatalf("the end of an Exec ended the container: %+v", st)
	}
}

// testExecDiesWithContainer: an Exec under way does not outlive its container.
func (s *suite) testExecDiesWithContainer() {
	id := s.run("sleep")
	type result struct {
		code int
		err  error
	}
	done := make(chan result, 1)
	go func() {
		code, err := s.execer().Exec(s.ctx, id, runtime.ExecConfig{Command: s.Command("stubborn")})
		done <- result{code, err}
	}()
	s.stop(id, grace)
	r := <-done
	if s.ctx.Err() != nil {
		s.Fatal("Exec outlived its container")
	}
	// Exec may also have come too late.
	if r.err == nil && r.code == 0 || r.err != nil && !errors.Is(r.err, runtime.ErrNotRunning) {
		s.Fatalf("Exec in a container that was stopped gives %d, %v", r.code, r.err)
	}
}

func (s *suite) testExecOverrides() {
	spec := s.Spec("sleep")
	spec.Environment = append(spec.Environment, "SUITE_KEPT=kept", "SUITE_REPLACED=old")
	id := s.createSpec(spec)
	s.start(id)
	var out bytes.Buffer
	cfg := runtime.ExecConfig{
		Command: s.Command("env", "SUITE_KEPT", "SUITE_REPLACED", "SUITE_ADDED", "BUDGIE_NAME"),
		Env:     []string{"SUITE_REPLACED=new=er", "SUITE_ADDED=added"},
		Workdir: "/",
		Stdout:  &out,
	}
	want := "SUITE_KEPT=kept\nSUITE_REPLACED=new=er\nSUITE_ADDED=added\nBUDGIE_NAME=" + spec.Name + "\n"
	if code, err := s.execer().Exec(s.ctx, id, cfg); err != nil || code != 0 || out.String() != want {
		s.Errorf("Exec with an environment of its own gives %d, %v, %q", code, err, &out)
	}
}

// testExecCannotRun: what cannot be run is told apart from what runs and fails,
// and does nothing to the container.
func (s *suite) testExecCannotRun() {
	id := s.run("sleep")
	for what, cfg := range map[string]runtime.ExecConfig{
		"no command":                    {},
		"an empty command":              {Command: []string{""}},
		"a command that is not there":   {Command: []string{"no-such-command-anywhere"}},
		"a path that is not there":      {Command: []string{"/no-such-directory/command"}},
		"a directory":                   {Command: []string{"/"}},
		"a directory that is not there": {Command: s.Command("exit", "0"), Workdir: "/no-such-directory"},
		"no command, on a terminal":     {Command: []string{"no-such-command-anywhere"}, TTY: &runtime.TTY{}, Stdin: strings.NewReader("x")},
	} {
		_, err := s.execer().Exec(s.ctx, id, cfg)
		if !errors.Is(err, runtime.ErrCommand) {
			s.Errorf("Exec of %s gives error %v, want %v", what, err, runtime.ErrCommand)
			continue
		}
		if len(cfg.Command) > 0 && cfg.Workdir == "" && !strings.Contains(err.Error(), strconv.Quote(cfg.Command[0])) && cfg.Command[0] != "" {
			s.Errorf("Exec of %s gives %v, which does not name it", what, err)
		}
	}
	if st := s.status(id); st.State != lifecycle.Running {
		s.Fatalf("an Exec that failed ended the container: %+v", st)
	}
}

// testExecLargeStreams: many bytes go through a command unchanged, several
// commands at a time.
func (s *suite) testExecLargeStreams() {
	id := s.run("sleep")
	const size = 4 << 20
	seed := rand.Uint64()
	s.Logf("seed %d", seed)
	s.inParallel(3, func(n int) error {
		source := rand.New(rand.NewPCG(seed, uint64(n)))
		sent, got := sha256.New(), sha256.New()
		code, err := s.execer().Exec(s.ctx, id, runtime.ExecConfig{
			Command: s.Command("cat"),
			// Of no type that a runtime could know better than by its methods.
			Stdin:  io.TeeReader(io.LimitReader(noise{source}, size), sent),
			Stdout: got,
		})
		switch {
		case err != nil:
			return err
		case code != 0:
			return errors.New("exit code " + strconv.Itoa(code))
		case !bytes.Equal(sent.Sum(nil), got.Sum(nil)):
			return errors.New("what came out is not what went in")
		}
		return nil
	})
}

// noise is a reader of random bytes.
type noise struct{ *rand.Rand }

// Read reads.
func (n noise) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(n.Uint32())
	}
	return len(p), nil
}

// session is an Exec under way that is talked to.
type session struct {
	*suite
	in    *io.PipeWriter
	lines chan string
	done  chan struct{}
	code  int
	err   error
}

// talk begins an Exec.
func (s *suite) talk(ctx context.Context, id string, cfg runtime.ExecConfig) *session {
	stdin, in := io.Pipe()
	out, stdout := io.Pipe()
	c := &session{suite: s, in: in, lines: make(chan string), done: make(chan struct{})}
	cfg.Stdin, cfg.Stdout, cfg.Stderr = stdin, stdout, stdout
	e := s.execer()
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(c.done)
		c.code, c.err = e.Exec(ctx, id, cfg)
		_ = stdout.Close()
		_ = stdin.Close()
	})
	wg.Go(func() {
		defer close(c.lines)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			select {
			case c.lines <- strings.TrimRight(lines.Text(), "\r"):
			case <-s.ctx.Done():
			}
		}
	})
	s.Cleanup(func() { _ = in.Close(); _ = out.Close(); wg.Wait() })
	return c
}

// expect waits for a line, or the end of one that begins with the echo of what
// was typed.
func (c *session) expect(want string) {
	c.Helper()
	var seen []string
	for line := range c.lines {
		if seen = append(seen, line); strings.HasSuffix(line, want) {
			return
		}
	}
	c.Fatalf("the command never wrote %q, but %q", want, seen)
}

// end waits for the command's end, and returns what Exec did.
func (c *session) end() (int, error) {
	for range c.lines {
		continue
	}
	<-c.done
	return c.code, c.err
}

// testExecTTY: a command on a terminal sees its size, that it changes, what is
// typed, and the end of that.
func (s *suite) testExecTTY() {
	id := s.run("sleep")
	sizes := make(chan runtime.TTYSize)
	c := s.talk(s.ctx, id, runtime.ExecConfig{
		Command: s.Command("tty", "7"),
		TTY:     &runtime.TTY{Size: runtime.TTYSize{Rows: 31, Columns: 97}, Resizes: sizes},
	})
	c.expect("terminal 31x97")
	c.expect("TERM is xterm")
	select {
	case sizes <- runtime.TTYSize{Rows: 43, Columns: 131}:
	case <-c.done:
		s.Fatalf("Exec ended with %d, %v", c.code, c.err)
	}
	c.expect("resized 43x131")
	if _, err := io.WriteString(c.in, "hello\n"); err != nil {
		s.Fatal(err)
	}
	c.expect(`got "hello"`)
	if _, err := io.WriteString(c.in, "half a line"); err != nil {
		s.Fatal(err)
	}
	_ = c.in.Close()
	c.expect(`got "half a line"`)
	c.expect("input is over")
	if code, err := c.end(); err != nil || code != 7 {
		s.Errorf("Exec gives %d, %v, want 7", code, err)
	}
	// Without a terminal there is none.
	var errs bytes.Buffer
	if code, err := s.execer().Exec(s.ctx, id, runtime.ExecConfig{Command: s.Command("tty", "7"), Stdin: strings.NewReader(""), Stderr: &errs}); err != nil || code == 7 {
		s.Errorf("a command without a terminal has one: %d, %v", code, err)
	}
}

// testExecTTYOutput: a terminal has one output, with its line ends, whole.
func (s *suite) testExecTTYOutput() {
	id := s.run("sleep")
	var out, errs bytes.Buffer
	cfg := runtime.ExecConfig{Command: s.Command("print", "to out", "to err"), Stdout: &out, Stderr: &errs,
		TTY: &runtime.TTY{}, Env: []string{"TERM=dumb"}}
	if code, err := s.execer().Exec(s.ctx, id, cfg); err != nil || code != 0 || out.String() != "to out\r\nto err\r\n" || errs.Len() != 0 {
		s.Errorf("Exec of print gives %d, %v, %q, %q", code, err, &out, &errs)
	}
	out.Reset()
	cfg.Command = s.Command("env", "TERM")
	if _, err := s.execer().Exec(s.ctx, id, cfg); err != nil || out.String() != "TERM=dumb\r\n" {
		s.Errorf("Exec of env gives %v, %q", err, &out)
	}
	out.Reset()
	cfg.Command = s.Command("count", "20000")
	if _, err := s.execer().Exec(s.ctx, id, cfg); err != nil || out.String() != strings.Join(numbers(20000), "\r\n")+"\r\n" {
		s.Errorf("Exec of count gives %v and %d bytes", err, out.Len())
	}
}

// testExecTTYCancelled: a terminal is no shelter.
func (s *suite) testExecTTYCancelled() {
	id := s.run("sleep")
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	c := s.talk(ctx, id, runtime.ExecConfig{Command: s.Command("stubborn"), TTY: &runtime.TTY{}})
	c.expect("ready")
	cancel()
	if _, err := c.end(); !errors.Is(err, context.Canceled) {
		s.Errorf("Exec whose context ends gives %v", err)
	}
	c = s.talk(s.ctx, id, runtime.ExecConfig{Command: s.Command("stubborn"), TTY: &runtime.TTY{}})
	c.expect("ready")
	s.stop(id, 0)
	if code, err := c.end(); err == nil && code == 0 || err != nil && !errors.Is(err, runtime.ErrNotRunning) {
		s.Errorf("Exec in a container that was stopped gives %d, %v", code, err)
	}
}
