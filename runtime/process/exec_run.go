//go:build linux || darwin

package process

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"

	"github.com/budgiehq/budgie/internal/execio"
	"github.com/budgiehq/budgie/runtime"
	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// execution is a command on its way from its start to its end.
type execution struct {
	cfg runtime.ExecConfig
	cmd *exec.Cmd
	out execio.Output
	// theirs are the command's ends of pipes and terminal, to be closed after
	// its start, and ours the others, to be closed in the end.
	theirs, ours []*os.File
	// terminal is our end of the terminal, nil without one.
	terminal *os.File
	// copies copy what the command writes, inputs what it reads. Nobody waits
	// for the latter: they end with the command, or when a Read returns.
	copies sync.WaitGroup
	inputs []func()
	ended  chan struct{}
}

func runCommand(ctx context.Context, what command, cfg runtime.ExecConfig) (int, error) {
	e := &execution{cfg: cfg, ended: make(chan struct{})}
	e.cmd = exec.CommandContext(ctx, what.argv[0], what.argv[1:]...)
	e.cmd.Args[0] = cfg.Command[0]
	e.cmd.Env, e.cmd.Dir = what.env, what.dir
	// In a session of its own the command cannot stop for want of a terminal that
	// it shares with this program, and is at the head of its process group.
	e.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	// Called before the process is waited for, so that the group is its own.
	e.cmd.Cancel = func() error { return unix.Kill(-e.cmd.Process.Pid, unix.SIGKILL) }
	defer func() { closeAll(e.ours) }()
	err := e.connect()
	if err == nil {
		err = e.cmd.Start()
	}
	closeAll(e.theirs)
	if ctx.Err() != nil && e.cmd.Process == nil {
		return 0, context.Cause(ctx)
	}
	if err != nil {
		return 0, fmt.Errorf("%w %q: %w", runtime.ErrCommand, cfg.Command[0], err)
	}
	return e.finish(ctx)
}

// finish waits for the command, and for its output.
func (e *execution) finish(ctx context.Context) (int, error) {
	for _, input := range e.inputs {
		go input()
	}
	var resizing sync.WaitGroup
	if e.terminal != nil {
		resizing.Go(e.resize)
	}
	all := make(chan struct{})
	go func() {
		defer close(all)
		e.copies.Wait()
	}()
	err := e.cmd.Wait() // with the state, an error says nothing new
	close(e.ended)
	resizing.Wait()
	if !e.out.Drain(ctx, all) {
		closeAll(e.ours)
		e.out.Drain(ctx, all) // nothing is written any more, unless a receiver hangs
	}
	if e.cmd.ProcessState == nil {
		return 0, err
	}
	return exitCode(e.cmd.ProcessState.Sys().(syscall.WaitStatus)), nil
}

// connect makes the command's streams.
func (e *execution) connect() error {
	if e.cfg.TTY != nil {
		return e.connectTerminal()
	}
	var err error
	if e.cmd.Stdout, err = e.outputPipe(e.cfg.Stdout); err != nil {
		return err
	}
	if e.cmd.Stderr = e.cmd.Stdout; !same(e.cfg.Stdout, e.cfg.Stderr) {
		if e.cmd.Stderr, err = e.outputPipe(e.cfg.Stderr); err != nil {
			return err
		}
	}
	switch in := e.cfg.Stdin.(type) {
	case nil, *os.File:
		e.cmd.Stdin = in
	default:
		theirs, ours, err := os.Pipe()
		if err != nil {
			return err
		}
		e.cmd.Stdin = theirs
		e.theirs, e.ours = append(e.theirs, theirs), append(e.ours, ours)
		e.inputs = append(e.inputs, func() {
			_, _ = io.Copy(ours, in) // that it reads no more is its own business
			ours.Close()
		})
	}
	return nil
}

// outputPipe returns what the command writes to so that w gets it.
func (e *execution) outputPipe(w io.Writer) (io.Writer, error) {
	if _, file := w.(*os.File); file || w == nil {
		return w, nil
	}
	ours, theirs, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	e.theirs = append(e.theirs, theirs)
	e.copyFrom(ours, w)
	return theirs, nil
}

// copyFrom hands on what the command writes to the other end of f.
func (e *execution) copyFrom(f *os.File, w io.Writer) {
	e.ours = append(e.ours, f)
	to := e.out.To(w)
	e.copies.Go(func() {
		_, _ = io.Copy(to, f) // of a terminal, the end is an error on Linux
		f.Close()
	})
}

// same reports whether two outputs are one. Not all can be compared.
func same(a, b io.Writer) bool {
	defer func() { _ = recover() }()
	return a == b
}

func (e *execution) connectTerminal() error {
	ours, theirs, err := pty.Open()
	if err != nil {
		return fmt.Errorf("make a terminal: %w", err)
	}
	e.theirs = append(e.theirs, theirs)
	if e.terminal, err = pollable(ours); err != nil {
		return fmt.Errorf("make a terminal: %w", err)
	}
	if err := setSize(e.terminal, e.cfg.TTY.Size); err != nil {
		return fmt.Errorf("set the size of a terminal: %w", err)
	}
	e.cmd.Stdin, e.cmd.Stdout, e.cmd.Stderr = theirs, theirs, theirs
	e.cmd.SysProcAttr.Setctty = true // Ctty 0 is the command's standard input
	e.copyFrom(e.terminal, e.cfg.Stdout)
	if in := e.cfg.Stdin; in != nil {
		e.inputs = append(e.inputs, func() { _, _ = io.Copy(e.terminal, execio.Typing(in, e.ended)) })
	}
	return nil
}

// pollable returns another file for the same terminal, whose Close ends a Read.
// The library for terminals makes files of which a Read blocks its thread.
func pollable(f *os.File) (*os.File, error) {
	defer f.Close()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

func setSize(terminal *os.File, size runtime.TTYSize) error {
	conn, err := terminal.SyscallConn()
	if err != nil {
		return err
	}
	var serr error
	err = conn.Control(func(fd uintptr) {
		serr = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: size.Rows, Col: size.Columns})
	})
	if err != nil {
		return err
	}
	return serr
}

// resize gives the terminal its further sizes until the command's end.
func (e *execution) resize() {
	for {
		select {
		case size, more := <-e.cfg.TTY.Resizes:
			if !more {
				return
			}
			_ = setSize(e.terminal, size) // an error means that it is closed
		case <-e.ended:
			return
		}
	}
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}
