package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/budgiehq/budgie"
)

func upgradeCommand() *command {
	c := &command{
		name:    "upgrade",
		args:    "[-pid N]",
		summary: "Replace the running budgie processes by the budgie that is installed now.\nNo connection is refused meanwhile (Linux only). It replaces those of the data\ndirectory: the supervisor, \"run\" in the foreground and \"chirp -balance\". Each\nstarts its successor from the file that it was started from; where that fails, the\nold one goes on, and the exit status is 1.",
		example: "sudo install budgie /usr/local/bin && budgie upgrade",
	}
	c.run = func(ctx context.Context, a *app, args []string) error {
		fs := c.flags()
		pid := fs.Int("pid", 0, "upgrade only the `process` with this id")
		rest, err := c.parse(a, fs, args)
		if err != nil {
			return err
		}
		if len(rest) > 0 {
			return c.usagef("takes no arguments, but there is %q", rest[0])
		}
		return a.withClient(slog.LevelWarn, func(client *budgie.Client) error {
			failed := false
			err := client.Upgrade(ctx, *pid, func(pid int, text string, err error) {
				if err != nil {
					failed = true
					fmt.Fprintln(a.stderr, printable(fmt.Sprintf("budgie: process %d goes on: %v", pid, err)))
					return
				}
				fmt.Fprintln(a.stdout, printable(fmt.Sprintf("process %d: %s", pid, text)))
			})
			if err == nil && failed {
				return errSilent
			}
			return err
		})
	}
	return c
}

// upgrader replaces this process by a successor, from the same file with the same
// arguments.
type upgrader struct {
	a    *app
	args []string
	// exe is the file that this process was started from, or why it is not known: it
	// may be moved away, and another one take its place.
	exe    string
	exeErr error
	// grouped says that the successor does not get the terminal's signals: this process
	// passes them on.
	grouped bool

	starting sync.Mutex
	client   *budgie.Client
	// successor is what has taken over, nil where nothing was started here.
	successor *exec.Cmd
	ended     chan error
}

// newUpgrader returns what replaces a command.
func (a *app) newUpgrader(name string, grouped bool) *upgrader {
	args := slices.DeleteFunc(slices.Clone(a.words), func(arg string) bool { return arg == "-take-over" || arg == "--take-over" })
	exe, err := os.Executable()
	return &upgrader{a: a, exe: exe, exeErr: err, args: append([]string{name, "-take-over"}, args...), grouped: grouped, ended: make(chan error, 1)}
}

// option lets "budgie upgrade" ask for it.
func (u *upgrader) option() budgie.Option { return budgie.WithUpgrade(u.start) }

// serve replaces the client's process when a signal asks for it, until ctx ends.
func (u *upgrader) serve(ctx context.Context, client *budgie.Client) (stop func()) {
	u.starting.Lock()
	u.client = client
	u.starting.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	asked := make(chan os.Signal, 1)
	if signals := upgradeSignals(); len(signals) > 0 {
		signal.Notify(asked, signals...)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-asked:
				if text, err := u.start(ctx); err != nil {
					fmt.Fprintln(u.a.stderr, printable(fmt.Sprintf("budgie: this process goes on: %v", err)))
				} else {
					fmt.Fprintln(u.a.stderr, "budgie:", text)
				}
			case <-ctx.Done():
				return
			}
		}
	})
	return func() {
		signal.Stop(asked)
		cancel()
		wg.Wait()
	}
}

// start starts a successor, and returns when it has taken over, or why it has not.
func (u *upgrader) start(ctx context.Context) (string, error) {
	u.starting.Lock()
	defer u.starting.Unlock()
	if u.client == nil || u.successor != nil {
		return "", errors.New("it is just beginning, or being replaced already")
	}
	if u.exeErr != nil {
		return "", u.exeErr
	}
	cmd := exec.Command(u.exe, u.args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if u.grouped {
		cmd.SysProcAttr = ownGroup()
	}
	if err := cmd.Start(); err != nil {
		return "", fmt.Errorf("start the successor: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }() // ends with the successor, which outlives this process
	if err := untilReplaced(ctx, u.client.Replaced(), ended); err != nil {
		_ = cmd.Process.Kill() // or it has ended
		return "", err
	}
	u.successor, u.ended = cmd, ended
	if err := tellManager(fmt.Sprintf("MAINPID=%d", cmd.Process.Pid)); err != nil {
		fmt.Fprintln(u.a.stderr, "budgie: the service manager cannot be told of the successor:", err)
	}
	return fmt.Sprintf("process %d (%s) has taken over", cmd.Process.Pid, u.exe), nil
}

// untilReplaced waits until a successor has taken over. Once it has, that counts whatever
// else happens: this process ends then, and ctx with it.
func untilReplaced(ctx context.Context, replaced <-chan struct{}, ended <-chan error) error {
	select {
	case <-replaced:
		return nil
	case err := <-ended:
		if err == nil {
			err = errors.New("exit status 0")
		}
		return fmt.Errorf("the successor ended (%w): its messages are where this process's are", err)
	case <-ctx.Done():
	}
	select {
	case <-replaced:
		return nil
	default:
		return fmt.Errorf("the successor did not take over: %w", context.Cause(ctx))
	}
}

// await waits for the end of the successor, if one was started here, passes signals on
// to it, and returns its exit status: to whoever started this process nothing has
// changed. A service manager that was told of the successor needs no such thing.
// Without a successor it returns err, which is what came of this process.
func (u *upgrader) await(ctx context.Context, err error) error {
	u.starting.Lock()
	cmd := u.successor
	u.starting.Unlock()
	if cmd == nil || os.Getenv(managerVariable) != "" {
		return err
	}
	if err != nil {
		fmt.Fprintln(u.a.stderr, "budgie: what was under way did not end well:", err)
	}
	first, second := ctx.Done(), u.a.hurry.Done()
	for {
		select {
		case <-first:
			first = nil
			_ = cmd.Process.Signal(syscall.SIGTERM) // or it has ended
		case <-second:
			second = nil
			_ = cmd.Process.Signal(syscall.SIGTERM)
		case err := <-u.ended:
			if err == nil {
				return nil
			}
			if status, ok := errors.AsType[*exec.ExitError](err); ok && status.ExitCode() >= 0 {
				return &statusError{status.ExitCode()}
			}
			return fmt.Errorf("the successor ended: %w", err)
		}
	}
}

// managerVariable has the address of systemd's socket for news of a service.
const managerVariable = "NOTIFY_SOCKET"

// tellManager tells systemd of a service's state, as sd_notify(3) does, if it wants to
// know.
func tellManager(state string) error {
	name := os.Getenv(managerVariable)
	if name == "" {
		return nil
	}
	if name[0] == '@' {
		name = "\x00" + name[1:]
	}
	c, err := net.DialTimeout("unixgram", name, time.Second)
	if err != nil {
		return err
	}
	_, err = c.Write([]byte(state))
	return errors.Join(err, c.Close())
}
