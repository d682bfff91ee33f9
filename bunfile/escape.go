package bunfile

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// checkEscapes looks at the escapes of the double-quoted text that starts at
// pos. The scanner takes anything for a hexadecimal digit.
func (b *builder) checkEscapes(pos position) {
	line, at, ok := b.seen.seek(b.src, pos)
	if !ok || at >= len(line) || line[at] != '"' {
		return
	}
	for number, i := pos.line, at+1; ; i++ {
		if i >= len(line) {
			if number++; number > len(b.src.lines) {
				return
			}
			line, i = b.src.lines[number-1], -1
			continue
		}
		switch line[i] {
		case '"':
			return
		case '\\':
			length, problem := escape(line[i:])
			if problem != "" && len(b.problems) < maxErrors { // to find a column costs a walk over the line
				b.report(position{number, 1 + utf8.RuneCountInString(line[:i])}, problem, "write the character itself")
			}
			i += length - 1
		}
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
