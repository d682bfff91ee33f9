package main

import (
	"context"
	"errors"
	"flag"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/budgiehq/budgie"
	"github.com/budgiehq/budgie/runtime"
	"golang.org/x/term"
)

// execFlags are what a command is run with.
type execFlags struct {
	interactive, tty bool
	env              []string
	workdir, user    string
}

func execCommand() *command {
	c := &command{
		name: "exec",
		args: "[-i] [-t] [-e KEY=VALUE]… [-w DIR] [-u USER] ID|NAME COMMAND [ARGUMENT…]",
		summary: "Run a command inside a running container.\n" +
			"The exit status is the command's, 128 and the signal's number where a signal\nended it, and 1 where it could not be run.",
		example: "budgie exec web ls -l /\nbudgie exec -it web sh\nbudgie exec -i db psql <dump.sql",
	}
	c.run = func(ctx context.Context, a *app, args []string) error {
		fs := c.flags()
		var f execFlags
		fs.BoolVar(&f.interactive, "i", false, "interactive: the command reads what comes on standard input")
		fs.BoolVar(&f.tty, "t", false, "give the command a terminal, which the standard input must be, too")
		bundle(fs, "i", "t")
		fs.Func("e", "set a `variable`, KEY=VALUE, in the command's environment; KEY alone passes it on from here", func(text string) error {
			kv, err := variable(text)
			f.env = append(f.env, kv...)
			return err
		})
		fs.StringVar(&f.workdir, "w", "", "working `directory` of the command, inside the container (default the container's)")
		fs.StringVar(&f.user, "u", "", "`user` of the command: a name, a uid or uid:gid (default the container's)")
		ref, cmd, err := c.parseExec(a, fs, args)
		if err != nil {
			return err
		}
		return a.exec(ctx, ref, cmd, f)
	}
	return c
}

// variable reads an entry for the environment: KEY=VALUE, or the name of a
// variable of this program, which may not be set.
func variable(text string) ([]string, error) {
	key, _, has := strings.Cut(text, "=")
	if key == "" || strings.ContainsRune(text, 0) {
		return nil, errors.New("want KEY=VALUE, or KEY")
	}
	if has {
		return []string{text}, nil
	}
	if value, set := os.LookupEnv(key); set {
		return []string{key + "=" + value}, nil
	}
	return nil, nil
}

// parseExec parses flags before and after the container. With the next argument,
// or after "--", the command begins, whose flags are its own.
func (c *command) parseExec(a *app, fs *flag.FlagSet, args []string) (ref string, cmd []string, err error) {
	rest, dashes, err := c.parseLeading(a, fs, args)
	if err != nil {
		return "", nil, err
	}
	if len(rest) == 0 {
		return "", nil, c.usagef("which container?")
	}
	ref, cmd = rest[0], rest[1:]
	switch {
	case !dashes:
		cmd, _, err = c.parseLeading(a, fs, cmd)
	case len(cmd) > 0 && cmd[0] == "--":
		cmd = cmd[1:]
	}
	if err == nil && len(cmd) == 0 {
		err = c.usagef("which command?")
	}
	return ref, cmd, err
}

// parseLeading parses flags until the first argument or "--".
func (c *command) parseLeading(a *app, fs *flag.FlagSet, args []string) (rest []string, dashes bool, err error) {
	err = fs.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		c.help(a.stdout, fs)
		return nil, false, errHelp
	}
	if err != nil {
		return nil, false, c.usagef("%v", err)
	}
	rest = fs.Args()
	n := len(args) - len(rest)
	return rest, n > 0 && args[n-1] == "--", nil
}

// exec runs a command, and returns a statusError where it was not successful.
func (a *app) exec(ctx context.Context, ref string, cmd []string, f execFlags) error {
	cfg := runtime.ExecConfig{Command: cmd, Env: f.env, Workdir: f.workdir, User: f.user, Stdout: a.stdout, Stderr: notFile{Writer: a.stderr}}
	if sameFile(os.Stdout, os.Stderr) {
		cfg.Stderr = cfg.Stdout // so that the order of what is written stays
	}
	if f.interactive {
		cfg.Stdin = os.Stdin
		if term.IsTerminal(int(os.Stdin.Fd())) {
			cfg.Stdin = notFile{Reader: os.Stdin}
		}
	}
	var code int
	err := a.withClient(slog.LevelWarn, func(client *budgie.Client) (err error) {
		if f.tty {
			tty, restore, err := a.terminal.lend(f.interactive)
			if err != nil {
				return err
			}
			defer restore()
			cfg.TTY = tty
			if kind := os.Getenv("TERM"); kind != "" {
				cfg.Env = append([]string{"TERM=" + kind}, cfg.Env...) // -e comes later, and wins
			}
		}
		code, err = client.Exec(ctx, ref, cfg)
		return err
	})
	if status, ok := signalled(ctx); ok && errors.Is(err, context.Canceled) {
		return &statusError{status}
	}
	if err == nil && code != 0 {
		return &statusError{code}
	}
	return err
}

// notFile hides that something is a file: a command that was not given a
// terminal is not to find the user's.
type notFile struct {
	io.Reader
	io.Writer
}

// sameFile reports whether two open files are one.
func sameFile(a, b *os.File) bool {
	x, err := a.Stat()
	y, yerr := b.Stat()
	return err == nil && yerr == nil && os.SameFile(x, y)
}
