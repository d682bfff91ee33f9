package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"golang.org/x/term"

	"github.com/budgiehq/budgie"
	"github.com/budgiehq/budgie/trust"
)

func tokenCommand() *command {
	c := &command{
		name: "token",
		args: "[-id | set | rotate]",
		summary: "Print the token by which machines trust each other; the first use makes one.\n" +
			"\"set\" reads the token of another machine from the standard input, and \"rotate\"\n" +
			"makes a new one: the one before is refused from then on. With -id, print what\n" +
			"tells tokens apart and is no secret.",
		example: "budgie token | ssh other budgie token set\nbudgie token rotate",
	}
	c.run = func(ctx context.Context, a *app, args []string) error {
		fs := c.flags()
		id := fs.Bool("id", false, "print the id of the token's flock instead of the token")
		rest, err := c.parse(a, fs, args)
		if err != nil {
			return err
		}
		// What is wrong with the arguments is not repeated: one may be a token.
		word := ""
		switch {
		case len(rest) > 1 && rest[0] == "set":
			return c.usagef("set reads the token from the standard input, and not from its arguments, which everybody can see in ps")
		case len(rest) > 1, len(rest) == 1 && rest[0] != "set" && rest[0] != "rotate":
			return c.usagef("its only argument is set or rotate")
		case len(rest) == 1 && *id:
			return c.usagef("-id goes without %s", rest[0])
		case len(rest) == 1:
			word = rest[0]
		}
		return a.withClient(slog.LevelWarn, func(client *budgie.Client) error {
			switch word {
			case "set":
				return a.setToken(ctx, client)
			case "rotate":
				return a.rotateToken(ctx, client)
			}
			tok, err := client.Token(ctx)
			if err != nil {
				return err
			}
			if *id {
				fmt.Fprintln(a.stdout, tok.FlockID())
			} else {
				fmt.Fprintln(a.stdout, tok.Reveal())
			}
			return nil
		})
	}
	return c
}

func (a *app) setToken(ctx context.Context, client *budgie.Client) error {
	text, err := a.readSecret(ctx, "token: ")
	if err != nil {
		return fmt.Errorf("read the token from the standard input: %w", err)
	}
	tok, err := trust.ParseToken(text)
	if err != nil {
		return fmt.Errorf("the standard input is %w", err)
	}
	return client.SetToken(ctx, tok)
}

func (a *app) rotateToken(ctx context.Context, client *budgie.Client) error {
	tok, err := client.RotateToken(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintln(a.stdout, tok.Reveal())
	fmt.Fprintln(a.stderr, "the token before is refused here from now on; for each machine that is to stay: budgie token | ssh MACHINE budgie token set")
	return nil
}

// mostInput is more than any secret is long.
const mostInput = 64 << 10

// readSecret reads the standard input to its end, or, where somebody sits at
// it, one line that is not shown. It returns early if ctx ends.
func (a *app) readSecret(ctx context.Context, prompt string) (string, error) {
	read := func() ([]byte, error) { return io.ReadAll(io.LimitReader(a.stdin, mostInput)) }
	restore := func() {}
	if fd := int(a.stdin.Fd()); term.IsTerminal(fd) {
		if state, err := term.GetState(fd); err == nil {
			restore = func() { _ = term.Restore(fd, state) }
		}
		fmt.Fprint(a.stderr, prompt)
		read = func() ([]byte, error) {
			defer fmt.Fprintln(a.stderr)
			return term.ReadPassword(fd)
		}
	}
	type result struct {
		text []byte
		err  error
	}
	done := make(chan result, 1)
	go func() { // ends with the input, or with the program
		text, err := read()
		done <- result{text, err}
	}()
	select {
	case r := <-done:
		if errors.Is(r.err, os.ErrClosed) {
			return "", errors.New("it is closed")
		}
		return string(r.text), r.err
	case <-ctx.Done():
		restore()
		return "", ctx.Err()
	}
}
