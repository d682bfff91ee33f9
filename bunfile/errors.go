package bunfile

import (
	"errors"
	"strconv"
	"strings"
	"unicode"
)

// Errors that callers tell apart; test for them with errors.Is.
var (
	// ErrCycle means that depends_on leads from a container back to itself.
	ErrCycle = errors.New("depends_on goes in a circle")
	// ErrUnknownDependency means that depends_on names a container that is not
	// there.
	ErrUnknownDependency = errors.New("unknown container in depends_on")
	// ErrTooLarge means that a text exceeds MaxSize or another of the limits
	// that keep a hostile text cheap.
	ErrTooLarge = errors.New("too large")
)

// Error is one problem of a file, or of a Spec that was built in code, where
// Line is 0.
type Error struct {
	// File is the name given to Parse or Load, or that of an env_file. Empty
	// for a Spec built in code.
	File string
	// Line and Column count from 1, columns in characters, not bytes. Both are
	// 0 where no place in a text is at fault.
	Line, Column int
	// Path is the key at fault, such as ports[1].container_port. Empty where
	// the problem is not that of a key.
	Path string
	// Snippet is the line at fault and no other, made printable: control
	// characters are replaced and a long line is cut around the column. Empty
	// for lines of an env_file that may hold a secret.
	Snippet string
	// Message says what is wrong and what is allowed.
	Message string
	// Hint says what was probably meant or what to do. May be empty.
	Hint string

	// caret is the column of Snippet, from 0, under which the caret stands.
	caret int
	cause error
}

// Unwrap returns the sentinel behind the problem, nil for most.
func (e *Error) Unwrap() error { return e.cause }

// Error returns the place and the message and, where there is a line to show,
// the line with a caret below; then the hint.
func (e *Error) Error() string {
	var b strings.Builder
	if e.File != "" {
		b.WriteString(printable(e.File))
		if e.Line > 0 {
			b.WriteString(":" + strconv.Itoa(e.Line) + ":" + strconv.Itoa(e.Column))
		}
		b.WriteString(": ")
	}
	if e.Path != "" {
		b.WriteString(e.Path + ": ")
	}
	b.WriteString(e.Message)
	if e.Snippet != "" {
		number := strconv.Itoa(e.Line)
		b.WriteString("\n  " + number + " | " + e.Snippet)
		b.WriteString("\n  " + strings.Repeat(" ", len(number)) + " | " + strings.Repeat(" ", e.caret) + "^")
	}
	if e.Hint != "" {
		b.WriteString("\n  hint: " + e.Hint)
	}
	return b.String()
}

// Errors is every problem of a file in order of position. It is never empty
// when returned as an error.
type Errors []*Error

// Error returns all problems, one below the other.
func (es Errors) Error() string {
	texts := make([]string, len(es))
	for i, e := range es {
		texts[i] = e.Error()
	}
	return strings.Join(texts, "\n")
}

// Unwrap returns the single problems, for errors.Is and errors.As.
func (es Errors) Unwrap() []error {
	out := make([]error, len(es))
	for i, e := range es {
		out[i] = e
	}
	return out
}

// snippetWidth is how much of a long line is shown, in characters.
const snippetWidth = 100

// snippet returns line made printable, cut to snippetWidth around column
// (from 1), and where the caret stands in it.
func snippet(line string, column int) (text string, caret int) {
	runes := []rune(line)
	caret = min(max(column-1, 0), len(runes))
	start, end := 0, len(runes)
	if end > snippetWidth {
		start = max(0, min(caret-snippetWidth/2, end-snippetWidth))
		end = start + snippetWidth
	}
	text = printable(string(runes[start:end]))
	caret -= start
	if start > 0 {
		text = "…" + text
		caret++
	}
	if end < len(runes) {
		text += "…"
	}
	if strings.TrimSpace(text) == "" {
		return "", 0 // nothing to show
	}
	return text, caret
}

// printable replaces, rune for rune, what would move the cursor or speak to the
// terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return ' '
		case r == '\u00a0' || !unicode.IsPrint(r):
			return '\ufffd'
		}
		return r
	}, s)
}

// plain returns text as it is where it is fit to print and short, and quoted
// elsewhere.
func plain(s string) string {
	if q := quote(s); q != `"`+s+`"` {
		return q
	}
	return s
}

// quote returns s quoted for a message, shortened where it is long.
func quote(s string) string {
	const longest = 60
	if runes := []rune(s); len(runes) > longest {
		return strconv.Quote(string(runes[:longest])) + "…"
	}
	return strconv.Quote(s)
}
