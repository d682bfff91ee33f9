package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
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

// cutDashes splits a command line at its first "--", after which there are
// only arguments.
func cutDashes(args []string) (before, after []string) {
	if i := slices.Index(args, "--"); i >= 0 {
		return args[:i], args[i+1:]
	}
	return args, nil
}

func (c *command) help(w io.Writer, fs *flag.FlagSet) {
	fmt.Fprintf(w, "%s\n\nusage: budgie %s %s\n", c.summary, c.name, c.args)
	any := false
	fs.VisitAll(func(*flag.Flag) { any = true })
	if any {
		fmt.Fprint(w, "\nflags:\n")
		fs.SetOutput(w)
		fs.PrintDefaults()
	}
	fmt.Fprintf(w, "\nexample:\n  %s\n", strings.ReplaceAll(c.example, "\n", "\n  "))
}

// isSet reports whether a flag was given.
func isSet(fs *flag.FlagSet, name string) bool {
	set := false
	fs.Visit(func(f *flag.Flag) { set = set || f.Name == name })
	return set
}
