package benchreport

import "strings"

// Aim is what the project wants of itself.
type Aim struct {
	// What is wanted, and what was Measured, in Markdown.
	What, Measured string
	// Met says whether that is enough.
	Met bool
}

// Aims are judged one by one. The zero value has none.
type Aims []Aim

// Add adds an aim: see [Aim].
func (a *Aims) Add(what, measured string, met bool) { *a = append(*a, Aim{what, measured, met}) }

// Markdown is a table of the aims, under a heading.
func (a Aims) Markdown() string {
	var b strings.Builder
	b.WriteString("\n### Aims\n\n| aim | measured | |\n| --- | --- | --- |\n")
	for _, aim := range a {
		verdict := "**missed**"
		if aim.Met {
			verdict = "met"
		}
		b.WriteString("| " + aim.What + " | " + aim.Measured + " | " + verdict + " |\n")
	}
	return b.String()
}
