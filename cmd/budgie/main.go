// Command budgie runs containers from .bun files on this machine, announces
// them on the local network and lists what others announce. It is a thin shell
// around the package github.com/budgiehq/budgie: flags in, library calls, text
// out.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/budgiehq/budgie"
	"github.com/budgiehq/budgie/runtime/containerd"
)

// Exit statuses.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2
)

// app is what a command sees of the world.
type app struct {
	stdin  *os.File
	stdout *output
	stderr io.Writer
	// colour is true where stdout is a terminal that wants colour.
	colour bool
	// draws is true where stderr is a terminal on which one can draw.
	draws bool
	// hurry ends when the user does not want to wait for a clean stop.
	hurry context.Context
	// words are those of the command line after the command.
	words []string
	// terminal is the user's, for whoever changes it.
	terminal userTerminal
}

// command is one word of the command line.
type command struct {
	name    string
	args    string // synopsis of flags and arguments, a line for each form
	summary string // its first line is a sentence, which "budgie help" shows
	example string
	run     func(ctx context.Context, a *app, args []string) error
}

func commands() []*command {
	return []*command{
		runCommand(), psCommand(), stopCommand(), rmCommand(), logsCommand(),
		execCommand(), statsCommand(), topCommand(), inspectCommand(), chirpCommand(), statusCommand(), tokenCommand(),
		superviseCommand(), upgradeCommand(), versionCommand(),
	}
}

func main() {
	ownProcess()
	a := &app{
		stdin: os.Stdin, stderr: os.Stderr,
		colour: wantsColour(os.Stdout), draws: canDraw(os.Stderr) && isWide(os.Stderr),
	}
	ctx, stop, hurry := signals(a)
	a.stdout, a.hurry = &output{w: os.Stdout, failed: stop}, hurry
	os.Exit(a.main(ctx, os.Args[1:]))
}

// signals returns a context that ends with the first SIGINT, SIGTERM or SIGHUP,
// of which its cause tells, or with stop, which ask to stop, and one that ends
// with the second signal, which asks to do so at once. The third signal ends the
// program, and leaves the terminal as it was.
func signals(a *app) (first context.Context, stop func(), second context.Context) {
	first, cancel := context.WithCancelCause(context.Background())
	second, hurry := context.WithCancel(context.Background())
	received := make(chan os.Signal, 3)
	signal.Notify(received, append(hangup(), os.Interrupt, syscall.SIGTERM)...)
	go func() {
		sig := <-received
		cancel(&signalError{sig})
		<-received
		hurry()
		<-received
		a.terminal.restore()
		os.Exit(exitFailure)
	}()
	return first, func() { cancel(nil) }, second
}

// signalError says that a signal asked the program to stop. It is a
// context.Canceled.
type signalError struct{ os.Signal }

// Error implements error.
func (e *signalError) Error() string { return e.String() }

// Is makes errors.Is(e, context.Canceled) true.
func (e *signalError) Is(target error) bool { return target == context.Canceled }

// signalled returns the exit status that shells give to what a signal ended, if
// one has ended ctx.
func signalled(ctx context.Context) (status int, ok bool) {
	e, ok := errors.AsType[*signalError](context.Cause(ctx))
	if !ok {
		return 0, false
	}
	sig, ok := e.Signal.(syscall.Signal)
	return 128 + int(sig), ok
}

// main runs a command line and returns the exit status.
func (a *app) main(ctx context.Context, args []string) int {
	if len(args) == 0 {
		a.usage(a.stderr)
		return exitUsage
	}
	name, rest := args[0], args[1:]
	if slices.Contains([]string{"-h", "-help", "--help", "help"}, name) {
		if name == "help" && len(rest) > 0 {
			return a.main(ctx, []string{rest[0], "-h"})
		}
		a.usage(a.stdout)
		return a.status(a.written())
	}
	if name == "-version" || name == "--version" {
		name = "version"
	}
	for _, cmd := range commands() {
		if cmd.name == name {
			a.words = rest
			return a.status(errors.Join(cmd.run(ctx, a, rest), a.written()))
		}
	}
	fmt.Fprintf(a.stderr, "budgie: there is no command %q; %s\n", name, instead(name))
	return exitUsage
}

// instead says what to do where there is no command of a name that other tools have.
func instead(name string) string {
	switch name {
	case "start", "restart", "up":
		return "\"budgie run -d FILE\" starts a container, also in place of a stopped one of its name"
	case "kill", "down":
		return "\"budgie stop\" and \"budgie rm\" end a container; -t 0s does so at once"
	case "images", "pull", "rmi":
		return "\"budgie run\" gets images, and containerd has them: \"ctr -n budgie images\""
	}
	return "\"budgie help\" lists them"
}

// written returns an error if the output is not all where it should be. That a
// reader left early needs no words.
func (a *app) written() error {
	switch err := a.stdout.problem(); {
	case readerLeft(err):
		return errSilent
	case err != nil:
		return fmt.Errorf("write the output: %w", err)
	}
	return nil
}

// errSilent is a failure of which the user knows.
var errSilent = errors.New("")

// statusError is an exit status that says all there is to say.
type statusError struct{ status int }

// Error implements error.
func (e *statusError) Error() string { return fmt.Sprintf("exit status %d", e.status) }

// status prints an error and returns the exit status for it.
func (a *app) status(err error) int {
	var usage *usageError
	var status *statusError
	switch {
	case errors.Is(err, errSilent):
		return exitFailure
	case errors.As(err, &status):
		return status.status
	case err == nil, errors.Is(err, errHelp):
		return exitOK
	case errors.As(err, &usage):
		fmt.Fprintf(a.stderr, "budgie %s: %s\nusage: %s\n", usage.cmd.name, usage.text, usage.cmd.synopsis())
		return exitUsage
	}
	fmt.Fprintf(a.stderr, "budgie: %v\n", err)
	return exitFailure
}

func (a *app) usage(w io.Writer) {
	fmt.Fprint(w, "budgie runs containers from .bun files and finds those of others.\n\nusage: budgie COMMAND [FLAG…] [ARGUMENT…]\n\n")
	for _, cmd := range commands() {
		summary, _, _ := strings.Cut(cmd.summary, "\n")
		fmt.Fprintf(w, "  %-10s %s\n", cmd.name, summary)
	}
	fmt.Fprintf(w, `
"budgie COMMAND -h" explains a command. Environment:

  BUDGIE_DATA_DIR    state, logs and identity; now %s
  BUDGIE_BIND        address for published ports, for example 127.0.0.1;
                     unset means all addresses of this machine
  BUDGIE_INTERFACES  network interfaces for discovery, separated by commas;
                     unset means all but container bridges
  BUDGIE_PEERS       nodes to find without multicast, host or host:port,
                     separated by commas
  BUDGIE_SYNC_RATE   how much volumes may send, and receive, per second, for
                     example 10MiB; unset means as much as there is
  BUDGIE_TOKEN       this machine's token, in place of the one in the data
                     directory ("budgie token -h")
  BUDGIE_LOG         least level that is reported on the standard error, and in
                     the supervisor's log: debug (with every step of the
                     containerd runtime), info, warn or error; unset means warn,
                     and info for supervisors and "chirp -balance"
  CONTAINERD_ADDRESS, CONTAINERD_NAMESPACE
                     where containers of images run; unset means
                     %s and %s
`, budgie.DefaultDataDir(), containerd.DefaultAddress, containerd.DefaultNamespace)
}

// logger reports on the standard error what is of the level that BUDGIE_LOG
// names, else of the given one, or graver.
func (a *app) logger(level slog.Level) (*slog.Logger, error) {
	if name := os.Getenv("BUDGIE_LOG"); name != "" {
		levels := map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}
		var ok bool
		if level, ok = levels[name]; !ok {
			return nil, fmt.Errorf("BUDGIE_LOG is %q; it may be debug, info, warn or error", name)
		}
	}
	return slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: level})), nil
}

// withClient calls f with a client that can start a supervisor, and closes it
// afterwards. The client reports what is of the given level or graver, unless
// BUDGIE_LOG says otherwise.
func (a *app) withClient(level slog.Level, f func(*budgie.Client) error, more ...budgie.Option) error {
	log, err := a.logger(level)
	if err != nil {
		return err
	}
	exe, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program, to start a supervisor with: %w", err)
	}
	dir := budgie.DefaultDataDir()
	rs, err := openRuntimes(dir, log)
	if err != nil {
		return err
	}
	opts := append(rs.options(), budgie.WithDataDir(dir), budgie.WithLogger(log), budgie.WithSupervisorCommand(exe, "supervise"))
	c, err := budgie.New(append(opts, more...)...)
	if err != nil {
		return errors.Join(err, rs.Close())
	}
	defer context.AfterFunc(a.hurry, c.Kill)()
	err = f(c)
	return errors.Join(err, c.Close(), rs.Close())
}
