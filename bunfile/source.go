package bunfile

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"
)

// MaxSize is the largest text that Parse and Load take, in bytes.
const MaxSize = 256 << 10

// Limits on what the YAML scanner is fed. It takes quadratic time over each of
// these, so that even a text below MaxSize could keep it busy for minutes. No
// file that a person writes comes near them.
const (
	maxBlankLines = 100  // in a row: a literal block drops trailing ones one by one
	maxLessThan   = 200  // "<" in a row: each looks ahead for a merge key
	maxLineTabs   = 1000 // in one line: each looks ahead for the line's end
)

// source is the text of a file: UTF-8 without byte order mark, with "\n" line
// ends, within all limits.
type source struct {
	name  string
	text  string
	lines []string
}

// position is a place in a source; both count from 1, columns in characters.
type position struct{ line, column int }

// newSource checks data and makes it a source. The lines are usable for
// reporting even when it returns an error.
func newSource(name string, data []byte) (*source, *Error) {
	src := &source{name: name}
	if len(data) > MaxSize {
		return src, &Error{File: name, cause: ErrTooLarge,
			Message: fmt.Sprintf("the file has %d bytes: want at most %d", len(data), MaxSize),
			Hint:    "split it, or move large values into files that a volume brings into the container"}
	}
	if bytes.HasPrefix(data, []byte{0xff, 0xfe}) || bytes.HasPrefix(data, []byte{0xfe, 0xff}) {
		return src, &Error{File: name, Message: "the file is UTF-16 text: want UTF-8", Hint: "save it as UTF-8"}
	}
	// Line breaks inside scalars count as "\n" whatever they are in the file
	// (YAML 1.2.2 section 5.4), so that nothing is lost here.
	text := strings.TrimPrefix(string(data), "\ufeff")
	text = strings.ReplaceAll(text, "\r\n", "\n")
	text = strings.ReplaceAll(text, "\r", "\n")
	src.text = text
	src.lines = strings.Split(text, "\n")
	if err := src.checkCharacters(); err != nil {
		return src, err
	}
	return src, src.checkLimits()
}

// checkCharacters refuses what is not text: invalid UTF-8 and the control
// characters that YAML 1.2.2 section 5.1 leaves out.
func (src *source) checkCharacters() *Error {
	for i, line := range src.lines {
		column := 0
		for at := 0; at < len(line); {
			r, size := utf8.DecodeRuneInString(line[at:])
			column++
			if r == utf8.RuneError && size == 1 {
				return src.err(position{i + 1, column}, "", fmt.Sprintf("byte 0x%02x is not UTF-8 text", line[at]),
					"a .bun file is YAML in UTF-8; is this the right file?")
			}
			if r < ' ' && r != '\t' {
				return src.err(position{i + 1, column}, "", fmt.Sprintf("control character U+%04X is not allowed", r),
					`a .bun file is YAML text; inside double quotes, write an escape such as "\x1b"`)
			}
			at += size
		}
	}
	return nil
}

func (src *source) checkLimits() *Error {
	blank := 0
	for i, line := range src.lines {
		if strings.TrimLeft(line, " \t") == "" {
			// The lines after the last text end the file; they cost nothing
			// only where they are few, so they count, too.
			if blank++; blank > maxBlankLines {
				return src.tooMuch(position{i + 1, 1}, fmt.Sprintf("more than %d blank lines in a row", maxBlankLines))
			}
			continue
		}
		blank = 0
		if at := strings.Index(line, strings.Repeat("<", maxLessThan+1)); at >= 0 {
			return src.tooMuch(position{i + 1, 1 + utf8.RuneCountInString(line[:at])},
				fmt.Sprintf("more than %d %q in a row", maxLessThan, "<"))
		}
		if strings.Count(line, "\t") > maxLineTabs {
			return src.tooMuch(position{i + 1, 1 + utf8.RuneCountInString(line[:strings.IndexByte(line, '\t')])},
				fmt.Sprintf("more than %d tabs in a line", maxLineTabs))
		}
	}
	return nil
}

func (src *source) tooMuch(at position, message string) *Error {
	e := src.err(at, "", message, "this is not how a .bun file is written by hand; is it the right file?")
	e.cause = ErrTooLarge
	return e
}

// err returns an error at a place, which is moved into the text if it lies
// outside.
func (src *source) err(at position, path, message, hint string) *Error {
	at.line = min(max(at.line, 1), len(src.lines))
	line := src.lines[at.line-1]
	at.column = min(max(at.column, 1), utf8.RuneCountInString(line)+1)
	e := &Error{File: src.name, Line: at.line, Column: at.column, Path: path, Message: message, Hint: hint}
	e.Snippet, e.caret = snippet(line, at.column)
	return e
}
