package bunfile

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/goccy/go-yaml/token"
)

// checkQuoted looks at the quoted text that starts at pos for what the scanner
// reads wrongly in silence: it takes anything for a hexadecimal digit, and it
// folds lines with tabs at their ends, or with blank lines between, into
// something else than YAML 1.2.2 section 7.3.1 has.
func (b *builder) checkQuoted(pos position) {
	line, at, ok := b.seen.seek(b.src, pos)
	if !ok || at >= len(line) {
		return
	}
	quote := line[at]
	for number, i := pos.line, at+1; ; i++ {
		if i >= len(line) {
			if number++; number > len(b.src.lines) {
				return
			}
			before := line
			line, i = b.src.lines[number-1], -1
			if !foldsPlainly(before, line) {
				b.report(position{number, 1}, "quoted text goes on over a blank line, a tab at a line's end, or in a line that starts with quotes", `write \n or \t in double quotes, or use a block that starts with |`)
				return
			}
			continue
		}
		switch {
		case line[i] == quote && quote == '\'' && strings.HasPrefix(line[i+1:], "'"):
			i++
		case line[i] == quote:
			return
		case line[i] == '\\' && quote == '"':
			length, problem := escape(line[i:])
			if problem != "" && len(b.problems) < maxErrors { // to find a column costs a walk over the line
				b.report(position{number, 1 + utf8.RuneCountInString(line[:i])}, problem, "write the character itself")
			}
			i += length - 1
		}
	}
}

// foldsPlainly reports whether the break between two lines of a text is one
// that the scanner, too, makes a single space.
func foldsPlainly(before, after string) bool {
	text := strings.TrimLeft(after, " ")
	if trimmed := strings.TrimRight(before, " "); trimmed != before && strings.HasSuffix(trimmed, `\`) {
		return false // an escaped blank
	}
	return text != "" && text[0] != '\t' && !strings.HasPrefix(text, "''") && !strings.HasSuffix(strings.TrimRight(before, " "), "\t")
}

// checkPlain looks at text without quotes for what the scanner drops or adds in
// silence: tabs, blank lines, and comments after a line that starts with "-".
func (b *builder) checkPlain(tk *token.Token) {
	text := strings.Trim(tk.Origin, " \t\n")
	switch {
	case strings.Contains(text, "\t"), strings.Contains(tk.Value, "\t"):
		b.report(tokenPosition(tk), "there is a tab in text without quotes", "put the text in quotes")
	case strings.Contains(tk.Value, "\n"):
		b.report(tokenPosition(tk), "text without quotes goes on over a blank line", "put it in quotes, or use a block that starts with |")
	case dashedLine.MatchString(text):
		b.report(tokenPosition(tk), `text without quotes goes on in a line that starts with "-"`, "put it in quotes, or indent a list like its key")
	case tk.Value == "?":
		b.report(tokenPosition(tk), `a "?" is not text`, "put it in quotes")
	}
}

var dashedLine = regexp.MustCompile(`\n *-`)

// checkBlock looks at a block of text that starts with | or > for blanks at
// its end, which the scanner drops in silence.
func (b *builder) checkBlock(start *token.Token) {
	const blanks = " \t"
	indent, last := -1, 0
	for number := start.Position.Line + 1; number <= len(b.src.lines); number++ {
		line := b.src.lines[number-1]
		width := len(line) - len(strings.TrimLeft(line, " "))
		switch {
		case strings.Trim(line, blanks) == "":
			if indent >= 0 && len(line) > indent {
				last = number
			}
			continue
		case indent < 0:
			indent = width
		case width < indent:
			number = len(b.src.lines)
			continue
		}
		last = 0
		if strings.TrimRight(line, blanks) != line && strings.Contains(start.Value, "-") {
			last = number
		}
	}
	if last > 0 {
		b.report(position{last, 1 + utf8.RuneCountInString(strings.TrimRight(b.src.lines[last-1], blanks))},
			"there are blanks at the end of a block of text", "delete them; to keep them, put the text in double quotes")
	}
}

// escape looks at the escape at the start of s and returns how many bytes it
// has, and what is wrong with it.
func escape(s string) (length int, problem string) {
	if len(s) < 2 {
		return len(s), ""
	}
	digits := map[byte]int{'x': 2, 'u': 4, 'U': 8}[s[1]]
	if digits == 0 {
		return 2, "" // the scanner knows the others
	}
	value, ok := hex(s[2:], digits)
	if !ok {
		return 2, fmt.Sprintf(`the escape \%c wants %d hexadecimal digits`, s[1], digits)
	}
	length = 2 + digits
	if s[1] == 'u' && utf16.IsSurrogate(value) && strings.HasPrefix(s[length:], `\u`) {
		if low, ok := hex(s[length+2:], 4); ok && utf16.DecodeRune(value, low) != utf8.RuneError {
			return 2 * length, ""
		}
	}
	if !utf8.ValidRune(value) {
		return length, fmt.Sprintf(`the escape %s is no character`, s[:length])
	}
	return length, ""
}

func hex(s string, digits int) (value rune, ok bool) {
	if len(s) < digits {
		return 0, false
	}
	v, err := strconv.ParseUint(s[:digits], 16, 32)
	if err != nil {
		return 0, false
	}
	return rune(min(v, math.MaxInt32)), true
}

// cursor turns positions into byte offsets. Tokens come in file order, so that
// a long line is walked once and not once per token.
type cursor struct {
	pos    position
	offset int
}

func (c *cursor) seek(src *source, pos position) (line string, offset int, ok bool) {
	if pos.line < 1 || pos.line > len(src.lines) {
		return "", 0, false
	}
	line = src.lines[pos.line-1]
	if c.pos.line != pos.line || c.pos.column > pos.column {
		c.pos, c.offset = position{pos.line, 1}, 0
	}
	for c.pos.column < pos.column && c.offset < len(line) {
		_, size := utf8.DecodeRuneInString(line[c.offset:])
		c.offset += size
		c.pos.column++
	}
	return line, c.offset, c.pos.column == pos.column
}
