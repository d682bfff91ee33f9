package bunfile

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
)

// decoder reads one document's tree into a Spec and remembers where each key
// stands.
type decoder struct {
	places   map[string]place // by path of the Spec
	broken   map[string]bool  // paths whose value could not be read
	problems []problem
}

// place is where a value stands, and its path as the file has it.
type place struct {
	pos   position
	shown string
}

func newDecoder() *decoder {
	return &decoder{places: map[string]place{}, broken: map[string]bool{}}
}

// document reads a tree and checks what it says.
func (d *decoder) document(root *node) Spec {
	var s Spec
	mapping(specFields(&s))(d, root, "")
	return s
}

func (d *decoder) fail(n *node, path, message, hint string) {
	d.broken[path] = true
	d.problems = append(d.problems, problem{pos: n.pos, path: path, message: message, hint: hint})
}

// locate gives the problems that the rules found in the document's Spec their
// places, and drops those that follow from a value that could not be read.
func (d *decoder) locate(found findings) {
	for _, p := range found {
		if d.isBroken(p.path, false) || slices.ContainsFunc(p.relies, func(path string) bool { return d.isBroken(path, true) }) {
			continue
		}
		at, known := d.places[p.path]
		for from := p.path; !known; {
			from = parentPath(from)
			at, known = d.places[from]
			at.shown = p.path
		}
		p.pos, p.path = at.pos, at.shown
		d.problems = append(d.problems, p)
	}
}

// isBroken reports whether the value at path or one that holds it could not be
// read; if whole is set, also whether one in it could not.
func (d *decoder) isBroken(path string, whole bool) bool {
	for broken := range d.broken {
		if within(path, broken) || whole && within(broken, path) {
			return true
		}
	}
	return false
}

func within(path, outer string) bool {
	rest, ok := strings.CutPrefix(path, outer)
	return ok && (rest == "" || outer == "" || rest[0] == '.' || rest[0] == '[')
}

// want checks the kind of a value and reports a wrong one.
func (d *decoder) want(n *node, path string, k kind, words string) bool {
	d.places[path] = place{n.pos, path}
	switch {
	case n.kind == k:
		return true
	case n.kind == nullKind && n.text == brokenAlias:
		d.broken[path] = true
	case n.kind == nullKind && path != "":
		d.fail(n, path, "there is no value here: want "+words, "give it a value, or delete it")
	case path == "":
		d.fail(n, path, fmt.Sprintf(`want keys with values, such as version: "1.0", got %s`, got(n)), "")
	default:
		d.fail(n, path, fmt.Sprintf("want %s, got %s", words, got(n)), shapeHint(path, n))
	}
	return false
}

func got(n *node) string {
	switch {
	case n.kind != scalarKind:
		return n.kind.String()
	case n.plain && numberText.MatchString(n.text):
		return "a number"
	}
	return "a string"
}

// mapping reads a mapping with known keys.
func mapping(fields []field) readFunc {
	return func(d *decoder, n *node, path string) {
		if !d.want(n, path, mappingKind, "a mapping") {
			return
		}
		for _, p := range n.pairs {
			d.key(p, path, fields)
		}
	}
}

func (d *decoder) key(p pair, path string, fields []field) {
	for _, f := range fields {
		if f.name == p.key.text {
			f.read(d, p.value, keyPath(path, f.name))
			return
		}
	}
	allowed := names(fields)
	d.problems = append(d.problems, problem{pos: p.key.pos, path: path, message: "unknown key " + quote(p.key.text),
		hint: keyHint(sectionOf(path), p.key.text, allowed)})
	// Do not report as missing what is only misspelt.
	if meant := nearest(p.key.text, allowed); meant != "" {
		d.broken[keyPath(path, meant)] = true
	}
}

var listIndex = regexp.MustCompile(`\[[0-9]+\]`)

// sectionOf makes ports[3] the section ports.
func sectionOf(path string) string { return listIndex.ReplaceAllString(path, "") }

// list reads a list of mappings.
func list[T any](to *[]T, fields func(*T) []field) readFunc {
	return func(d *decoder, n *node, path string) {
		if !d.want(n, path, listKind, "a list of mappings") {
			return
		}
		for i, item := range n.items {
			var value T
			mapping(fields(&value))(d, item, indexPath(path, i))
			*to = append(*to, value)
		}
	}
}

// scalar returns the text of a single value as it stands in the file.
func (d *decoder) scalar(n *node, path, words string) (string, bool) {
	if !d.want(n, path, scalarKind, words) {
		return "", false
	}
	return n.text, true
}

// entry reads a string of a list or a mapping, which may be empty, but not
// absent.
func (d *decoder) entry(n *node, path string) (string, bool) {
	if n.kind == nullKind && n.text != brokenAlias {
		hint := `write "" for an empty one`
		if !n.implicit {
			hint = "in quotes, " + quote(n.text) + " is text"
		}
		d.fail(n, path, "there is no value here: want a string", hint)
		return "", false
	}
	return d.scalar(n, path, "a string")
}

// text reads a string. Without quotes, too, it is taken as it is written:
// 1.10 is "1.10" and yes is "yes". An empty one is refused, because a Spec
// cannot tell it from an absent one.
func text[T ~string](to *T) readFunc {
	return func(d *decoder, n *node, path string) {
		value, ok := d.scalar(n, path, "a string")
		if ok && value == "" {
			d.fail(n, path, "the string is empty", "give it a value, or delete the key")
			return
		}
		*to = T(value)
	}
}

func textList(to *[]string) readFunc {
	return func(d *decoder, n *node, path string) {
		if !d.want(n, path, listKind, "a list of strings") {
			return
		}
		for i, item := range n.items {
			value, _ := d.entry(item, indexPath(path, i))
			*to = append(*to, value)
		}
	}
}

// fullTextList is textList for a list that is not to be empty.
func fullTextList(to *[]string) readFunc {
	return func(d *decoder, n *node, path string) {
		if n.kind == listKind && len(n.items) == 0 {
			d.fail(n, path, "the list is empty", "give it an entry, or delete the key")
			return
		}
		textList(to)(d, n, path)
	}
}

func textMap(to *map[string]string) readFunc {
	return func(d *decoder, n *node, path string) {
		if !d.want(n, path, mappingKind, "a mapping of strings") || len(n.pairs) == 0 {
			return
		}
		*to = make(map[string]string, len(n.pairs))
		for _, p := range n.pairs {
			if value, ok := d.entry(p.value, keyPath(path, p.key.text)); ok {
				(*to)[p.key.text] = value
			}
		}
	}
}

// environment reads a list of KEY=value or a mapping of strings.
func environment(to *[]string) readFunc {
	return func(d *decoder, n *node, path string) {
		if n.kind != mappingKind {
			if n.kind == listKind {
				textList(to)(d, n, path)
				return
			}
			d.want(n, path, listKind, "a list of KEY=value, or a mapping")
			return
		}
		d.places[path] = place{n.pos, path}
		for _, p := range n.pairs {
			shown, at := keyPath(path, p.key.text), indexPath(path, len(*to))
			value, ok := d.entry(p.value, shown)
			if !ok {
				d.broken[at] = true
			} else if strings.Contains(p.key.text, "=") {
				// Joined, key and value would split elsewhere.
				d.fail(p.key, shown, envKeyProblem(p.key.text), "")
				d.broken[at] = true
			}
			d.places[at] = place{p.value.pos, shown}
			*to = append(*to, p.key.text+"="+value)
		}
	}
}

func health(to **Healthcheck) readFunc {
	return func(d *decoder, n *node, path string) {
		h := &Healthcheck{}
		mapping(healthFields(h))(d, n, path)
		*to = h
	}
}

// number reads a whole number. An explicit 0 outside the range is reported
// here, because in a Spec it means the default.
func number[T ~int | ~int64](to *T, allowed numberRange) readFunc {
	return func(d *decoder, n *node, path string) {
		text, ok := d.scalar(n, path, "a whole number")
		if !ok {
			return
		}
		if !n.plain {
			d.fail(n, path, "want a whole number, got a string", "write it without quotes")
			return
		}
		value, err := parseNumber(text)
		switch {
		case err != nil:
			d.fail(n, path, err.Error(), numberHint(text))
		case value == 0 && !allowed.holds(0), value > math.MaxInt32 && !allowed.holds(value), value < math.MinInt32:
			d.fail(n, path, fmt.Sprintf("%d is out of range: want %s", value, allowed), "")
		default:
			*to = T(value)
		}
	}
}

// duration reads a time. An explicit 0 below least is reported here, because
// in a Spec it means the default.
func duration(to *Duration, least Duration) readFunc {
	return func(d *decoder, n *node, path string) {
		text, ok := d.scalar(n, path, "a time")
		if !ok {
			return
		}
		value, err := parseDuration(text)
		switch {
		case err != nil:
			d.fail(n, path, err.Error(), "")
		case value == 0 && least > 0:
			d.fail(n, path, fmt.Sprintf("%s is too short: want %s or more", value, least), "delete the key for the default")
		default:
			*to = value
		}
	}
}

func optionalDuration(to **Duration) readFunc {
	return func(d *decoder, n *node, path string) {
		value := new(Duration)
		duration(value, 0)(d, n, path)
		*to = value
	}
}

func size(to *Size) readFunc {
	return func(d *decoder, n *node, path string) {
		text, ok := d.scalar(n, path, "a size")
		if !ok {
			return
		}
		value, err := ParseSize(text)
		if err != nil {
			d.fail(n, path, err.Error(), "")
			return
		}
		*to = value
	}
}
