package bunfile

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// parseEnvFile reads the text of an env_file into KEY=value entries, in file
// order, keys unique.
//
// A line is blank, a comment that starts with #, or KEY=value, with an optional
// "export " in front. Blanks around key and value do not count. A value is
// taken as it is, # and $ included, or written in quotes: in single quotes
// everything stands for itself; in double quotes \n, \t, \r, \", \$ and \\ are
// escapes. After a closing quote only a comment may follow. Nothing is
// expanded, and no value goes on in the next line.
func parseEnvFile(name string, data []byte) ([]string, Errors) {
	src, err := newSource(name, data)
	if err != nil {
		err.Snippet = "" // it may show a secret
		err.Hint = "an env_file has one KEY=value per line, in UTF-8"
		return nil, Errors{err}
	}
	p := envParser{src: src, first: map[string]int{}}
	for i, line := range src.lines {
		p.line(i+1, line)
	}
	return p.entries, p.errs
}

type envParser struct {
	src     *source
	entries []string
	first   map[string]int // line of each key
	errs    Errors
}

// fail reports a problem at a byte of a line. Only shown, the part of the line
// without the value, appears in it.
func (p *envParser) fail(number int, line string, at int, shown, message, hint string) {
	if len(p.errs) == maxErrors {
		return
	}
	e := &Error{File: p.src.name, Line: number, Column: 1 + utf8.RuneCountInString(line[:at]), Message: message, Hint: hint}
	if shown != "" {
		e.Snippet, e.caret = snippet(shown+"…", min(e.Column, 1+utf8.RuneCountInString(shown)))
	}
	p.errs = append(p.errs, e)
}

func (p *envParser) line(number int, line string) {
	rest := strings.TrimLeftFunc(line, unicode.IsSpace)
	if rest == "" || rest[0] == '#' {
		return
	}
	if after, ok := strings.CutPrefix(rest, "export"); ok && after != "" && (after[0] == ' ' || after[0] == '\t') {
		rest = strings.TrimLeft(after, " \t")
	}
	at := len(line) - len(rest)
	key, value, ok := strings.Cut(rest, "=")
	if !ok {
		p.fail(number, line, at, "", "this line has no =: want KEY=value, a comment that starts with #, or a blank line",
			"a value cannot go on in the next line; in double quotes, write \\n for a line break")
		return
	}
	shown := line[:at+len(key)+1]
	key = strings.TrimRightFunc(key, unicode.IsSpace)
	if problem := envKeyProblem(key); problem != "" {
		p.fail(number, line, at, shown, problem, "")
		return
	}
	if first, twice := p.first[key]; twice {
		p.fail(number, line, at, shown, fmt.Sprintf("variable %s is given twice; first on line %d", quote(key), first), "delete one of them")
		return
	}
	p.first[key] = number
	value = strings.TrimSpace(value)
	text, problem := envValue(value)
	if problem != "" {
		p.fail(number, line, len(shown), shown, problem, "")
		return
	}
	p.entries = append(p.entries, key+"="+text)
}

// envValue takes the quotes off a value.
func envValue(value string) (text, problem string) {
	if value == "" || value[0] != '"' && value[0] != '\'' {
		return value, ""
	}
	var b strings.Builder
	for i := 1; i < len(value); i++ {
		switch c := value[i]; {
		case c == value[0]:
			rest := strings.TrimLeft(value[i+1:], " \t")
			if rest != "" && (rest[0] != '#' || len(rest) == len(value)-i-1) {
				return "", "there is text after the closing quote"
			}
			return b.String(), ""
		case c == '\\' && value[0] == '"':
			i++
			if i == len(value) {
				break
			}
			at := strings.IndexByte(`ntr"\$`, value[i])
			if at < 0 {
				return "", `unknown escape in double quotes: want \n, \t, \r, \", \$ or \\`
			}
			b.WriteByte("\n\t\r\"\\$"[at])
		default:
			b.WriteByte(c)
		}
	}
	return "", "the quote is not closed on this line"
}

// mergeEnvironment returns the entries of an env_file that own does not
// override, and then own.
func mergeEnvironment(fromFile, own []string) []string {
	overridden := make(map[string]bool, len(own))
	for _, entry := range own {
		key, _, _ := strings.Cut(entry, "=")
		overridden[key] = true
	}
	var out []string
	for _, entry := range fromFile {
		if key, _, _ := strings.Cut(entry, "="); !overridden[key] {
			out = append(out, entry)
		}
	}
	return append(out, own...)
}
