package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/budgiehq/budgie"
	"github.com/budgiehq/budgie/bunfile"
)

// errHelp: the user asked for help and has it.
var errHelp = errors.New("help was asked for")

// usageError is a command line that does not make sense.
type usageError struct {
	cmd  *command
	text string
}

// Error implements error.
func (e *usageError) Error() string { return e.text }

func (c *command) usagef(format string, args ...any) error {
	return &usageError{cmd: c, text: fmt.Sprintf(format, args...)}
}

// synopsis returns the command with its flags and arguments, each of its forms on a
// line, as it stands behind "usage: ".
func (c *command) synopsis() string {
	forms := strings.Split(c.args, "\n")
	for i, args := range forms {
		forms[i] = strings.TrimSpace("budgie " + c.name + " " + args)
	}
	return strings.Join(forms, "\n       ")
}

// flags returns the flag set of a command.
func (c *command) flags() *flag.FlagSet {
	fs := flag.NewFlagSet(c.name, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	return fs
}

// parse parses flags before and after arguments, until "--", and returns the
// arguments. -h prints help.
func (c *command) parse(a *app, fs *flag.FlagSet, args []string) ([]string, error) {
	args, literal := cutDashes(args)
	var rest []string
	for len(args) > 0 {
		err := fs.Parse(args)
		if errors.Is(err, flag.ErrHelp) {
			c.help(a.stdout, fs)
			return nil, errHelp
		}
		if err != nil {
			return nil, c.usagef("%v", err)
		}
		if args = fs.Args(); len(args) > 0 {
			rest = append(rest, args[0])
			args = args[1:]
		}
	}
	return append(rest, literal...), nil
}

// bundle lets two flags that take no value be given as one, in either order, as
// in -it.
func bundle(fs *flag.FlagSet, one, two string) {
	for _, name := range []string{one + two, two + one} {
		fs.BoolFunc(name, "both -"+one+" and -"+two, func(text string) error {
			return errors.Join(fs.Set(one, text), fs.Set(two, text))
		})
	}
}

// cutDashes splits a command line at its first "--", after which there are
// only arguments.
func cutDashes(args []string) (before, after []string) {
	if i := slices.Index(args, "--"); i >= 0 {
		return args[:i], args[i+1:]
	}
	return args, nil
}

func (c *command) help(w io.Writer, fs *flag.FlagSet) {
	fmt.Fprintf(w, "%s\n\nusage: %s\n", c.summary, c.synopsis())
	any := false
	fs.VisitAll(func(*flag.Flag) { any = true })
	if any {
		fmt.Fprint(w, "\nflags:\n")
		fs.SetOutput(w)
		fs.PrintDefaults()
	}
	fmt.Fprintf(w, "\nexample:\n  %s\n", strings.ReplaceAll(c.example, "\n", "\n  "))
}

// seconds is a flag for a duration, which may also be a plain number of
// seconds, as in .bun files. It is unset until it is given.
type seconds struct {
	set   bool
	value time.Duration
}

// secondsFlag defines a flag of that kind.
func secondsFlag(fs *flag.FlagSet, name, usage string) *seconds {
	s := new(seconds)
	fs.Var(s, name, usage)
	return s
}

// String implements flag.Value. It is empty for an unset flag, so that help
// prints no default.
func (s *seconds) String() string {
	if s == nil || !s.set {
		return ""
	}
	return s.value.String()
}

// Set implements flag.Value.
func (s *seconds) Set(text string) error {
	d, err := time.ParseDuration(text)
	if n, numErr := strconv.Atoi(text); numErr == nil {
		d, err = time.Duration(n)*time.Second, nil
	}
	if err != nil {
		return errors.New("want a time such as 500ms, 10s or 1m30s")
	}
	s.set, s.value = true, d
	return nil
}

// or returns the flag's value, or def where it was not given.
func (s *seconds) or(def time.Duration) time.Duration {
	if s.set {
		return s.value
	}
	return def
}

// bytesPerSecond is a flag for a rate. It is unset until it is given.
type bytesPerSecond struct {
	set  bool
	text string
	rate int64
}

// rateFlag defines a flag of that kind.
func rateFlag(fs *flag.FlagSet, name, usage string) *bytesPerSecond {
	b := new(bytesPerSecond)
	fs.Var(b, name, usage)
	return b
}

// String implements flag.Value.
func (b *bytesPerSecond) String() string { return b.text }

// Set implements flag.Value.
func (b *bytesPerSecond) Set(text string) error {
	rate, err := bunfile.ParseSize(text)
	if err != nil || rate < 0 {
		return errors.New("want a number of bytes per second, or a size such as 10MiB or 500k; 0 is no limit")
	}
	b.set, b.text, b.rate = true, text, int64(rate)
	return nil
}

// options are those of a client for which the flag was given.
func (b *bytesPerSecond) options() []budgie.Option {
	if !b.set {
		return nil
	}
	return []budgie.Option{budgie.WithSyncRate(b.rate)}
}
