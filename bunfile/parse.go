package bunfile

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// Parse reads the text of a .bun file. filename stands in errors and, without
// its directory and extension, is the name of a container that has none; it is
// not opened. Absent keys stay absent: see [Spec.WithDefaults]. Relative paths
// and EnvFile stay as they are: see [Load].
//
// The error is Errors, with every problem of the text; a syntax error is the
// exception, because what follows it cannot be understood. Text beyond MaxSize
// and YAML that would take disproportionate time or memory is refused with
// ErrTooLarge.
func Parse(filename string, data []byte) ([]Spec, error) {
	return parseSpecs(filename, data, true)
}

// ParseUntrusted is Parse for text that came from a peer. It refuses anchors,
// aliases and merge keys, too. It does not make a host path or a command of
// the text safe to use.
func ParseUntrusted(filename string, data []byte) ([]Spec, error) {
	return parseSpecs(filename, data, false)
}

func parseSpecs(filename string, data []byte, trusted bool) ([]Spec, error) {
	f, err := parseFile(filename, data, trusted)
	if err != nil {
		return nil, Errors{err}
	}
	if errs := f.src.errors(f.problems); len(errs) > 0 {
		return nil, errs
	}
	return f.specs, nil
}

// file is a parsed file that still knows where its values stand. The specs are
// only of use where there are no problems.
type file struct {
	src      *source
	specs    []Spec
	decoders []*decoder
	problems []problem
}

// parseFile returns an error only where there is nothing to go on with.
func parseFile(filename string, data []byte, trusted bool) (*file, *Error) {
	src, err := newSource(filename, data)
	if err != nil {
		return nil, err
	}
	trees, problems := parseTree(src, trusted)
	if len(trees) == 0 && len(problems) == 0 {
		return nil, src.err(position{1, 1}, "", "the file is empty",
			`a .bun file has at least version: "1.0" and image: {command: [PROGRAM]}, or image: {docker_image: NAME} for a container runtime`)
	}
	f := &file{src: src, problems: problems}
	for _, tree := range trees {
		d := newDecoder()
		spec := d.document(tree)
		f.defaultName(&spec, d, tree, len(trees))
		d.locate(checkSpec(&spec))
		f.specs = append(f.specs, spec)
		f.decoders = append(f.decoders, d)
	}
	for _, p := range checkSet(f.specs) {
		f.decoders[p.index].locate(findings{p.problem})
	}
	for _, d := range f.decoders {
		f.problems = append(f.problems, d.problems...)
	}
	return f, nil
}

// defaultName names a container that has no name after the file.
func (f *file) defaultName(s *Spec, d *decoder, tree *node, documents int) {
	if s.Name != "" || d.isBroken("name", false) {
		return
	}
	if documents > 1 {
		d.fail(tree, "name", "the container has no name; in a file with several, each needs one", "add name: NAME; "+wantLabel)
		return
	}
	base := filepath.Base(f.src.name)
	base = strings.TrimSuffix(base, filepath.Ext(base))
	if dnsLabel.MatchString(base) {
		s.Name = base
		return
	}
	hint := labelHint(base)
	if hint == "" {
		hint = "for example " + "web"
	}
	d.fail(tree, "name", fmt.Sprintf("the container has no name, and that of the file, %s, cannot be one: %s", quote(base), wantLabel),
		"add name: "+strings.TrimPrefix(hint, "for example "))
}

// maxErrors bounds how many problems of a text are described.
const maxErrors = 100

// errors describes problems in order of position.
func (src *source) errors(problems []problem) Errors {
	slices.SortStableFunc(problems, func(a, b problem) int {
		return cmp.Or(cmp.Compare(a.pos.line, b.pos.line), cmp.Compare(a.pos.column, b.pos.column))
	})
	// An alias leads to the same text, and so to the same problem, many times.
	type saying struct {
		pos     position
		message string
	}
	said := map[saying]bool{}
	var errs Errors
	more := 0
	for _, p := range problems {
		if key := (saying{p.pos, p.message}); said[key] {
			continue
		} else {
			said[key] = true
		}
		if len(errs) == maxErrors {
			more++
			continue
		}
		e := src.err(p.pos, p.path, p.message, p.hint)
		e.cause = p.cause
		errs = append(errs, e)
	}
	if more > 0 {
		last := errs[maxErrors-1]
		last.Hint = strings.TrimPrefix(fmt.Sprintf("%s; and %d more problems below", last.Hint, more), "; ")
	}
	return errs
}
