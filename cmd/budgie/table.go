package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"golang.org/x/term"
)

// table is a list for people: aligned columns, two spaces apart.
type table struct {
	header []string
	rows   [][]string
	// colour returns the escape code of a cell, empty for none; nil means no
	// colour anywhere.
	colour func(column int, cell string) string
}

func (t *table) add(cells ...string) {
	for i, c := range cells {
		cells[i] = printable(c)
	}
	t.rows = append(t.rows, cells)
}

// printable replaces control characters, which could otherwise drive the
// terminal: names on the network are anybody's.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return '?'
		}
		return r
	}, s)
}

func (t *table) write(w io.Writer, colour bool) {
	widths := make([]int, len(t.header))
	for _, row := range append([][]string{t.header}, t.rows...) {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	t.writeRow(w, t.header, widths, nil)
	for _, row := range t.rows {
		if colour {
			t.writeRow(w, row, widths, t.colour)
		} else {
			t.writeRow(w, row, widths, nil)
		}
	}
}

func (t *table) writeRow(w io.Writer, row []string, widths []int, colour func(int, string) string) {
	var b strings.Builder
	for i, cell := range row {
		text := cell
		if colour != nil {
			if code := colour(i, cell); code != "" {
				text = "\x1b[" + code + "m" + cell + "\x1b[0m"
			}
		}
		b.WriteString(text)
		if i < len(row)-1 {
			b.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+2))
		}
	}
	fmt.Fprintln(w, strings.TrimRight(b.String(), " "))
}

// stateColour colours the STATE and HEALTH columns of a container list.
func stateColour(column int, cell string) string {
	if column != 2 && column != 3 {
		return ""
	}
	switch strings.TrimSuffix(cell, "*") {
	case "running", "healthy":
		return "32"
	case "creating", "created", "starting", "restarting":
		return "33"
	case "unhealthy":
		return "31"
	case "stopped":
		return "2"
	}
	return ""
}

// wantsColour reports whether f is a terminal whose user did not ask for no
// colour (no-color.org).
func wantsColour(f *os.File) bool {
	return os.Getenv("NO_COLOR") == "" && canDraw(f)
}

// canDraw reports whether a file is a terminal that can do more than print lines.
func canDraw(f *os.File) bool {
	return os.Getenv("TERM") != "dumb" && term.IsTerminal(int(f.Fd()))
}

// isWide reports whether there is room for progress bars on a terminal. Those of
// some programs have no width at all.
func isWide(f *os.File) bool {
	width, _, err := term.GetSize(int(f.Fd()))
	return err == nil && width >= 40
}
