package bunfile

import (
	"fmt"
	"slices"
	"strings"
)

// setProblem is a problem between containers, found in one of them.
type setProblem struct {
	index int
	problem
}

// maxSuggestions bounds the search for similar names, which compares every
// unknown name with every known one.
const maxSuggestions = 20

// checkSet holds every rule about the containers of a file among each other.
func checkSet(specs []Spec) []setProblem {
	var out []setProblem
	byName := make(map[string]int, len(specs))
	for i, s := range specs {
		if s.Name == "" {
			continue
		}
		if first, twice := byName[s.Name]; twice {
			out = append(out, setProblem{i, problem{path: "name",
				message: fmt.Sprintf("name %s is given twice; first in container %d of the file", quote(s.Name), first+1)}})
			continue
		}
		byName[s.Name] = i
	}
	names := make([]string, 0, len(specs))
	for _, s := range specs {
		names = append(names, s.Name)
	}
	for i, s := range specs {
		for j, dep := range s.DependsOn {
			if _, ok := byName[dep]; ok || !dnsLabel.MatchString(dep) {
				continue
			}
			p := problem{path: indexPath("depends_on", j), cause: ErrUnknownDependency,
				message: fmt.Sprintf("there is no container %s in the file", quote(dep))}
			if len(out) < maxSuggestions {
				if near := nearest(dep, slices.Delete(slices.Clone(names), i, i+1)); near != "" {
					p.hint = "did you mean " + near + "?"
				}
			}
			out = append(out, setProblem{i, p})
		}
	}
	_, cycles := sortSpecs(specs, byName)
	return append(out, cycles...)
}

// sortSpecs visits the containers in file order, each after those that it
// depends on. Every circle it meets is reported where it closes.
func sortSpecs(specs []Spec, byName map[string]int) (order []int, cycles []setProblem) {
	const (
		unseen = iota
		open
		done
	)
	state := make([]int, len(specs))
	var trail []int
	var visit func(i int)
	visit = func(i int) {
		state[i] = open
		trail = append(trail, i)
		for j, dep := range specs[i].DependsOn {
			next, known := byName[dep]
			switch {
			case !known || next == i: // reported by checkSet and checkDependsOn
			case state[next] == unseen:
				visit(next)
			case state[next] == open && len(cycles) < maxErrors:
				cycles = append(cycles, setProblem{i, problem{path: indexPath("depends_on", j), cause: ErrCycle,
					message: "depends_on goes in a circle: " + circle(specs, trail, next)}})
			}
		}
		trail = trail[:len(trail)-1]
		state[i] = done
		order = append(order, i)
	}
	for i := range specs {
		if state[i] == unseen {
			visit(i)
		}
	}
	return order, cycles
}

func circle(specs []Spec, trail []int, start int) string {
	const most = 20
	var names []string
	for _, i := range trail[slices.Index(trail, start):] {
		if len(names) == most {
			names = append(names, "…")
			break
		}
		names = append(names, specs[i].Name)
	}
	return strings.Join(append(names, specs[start].Name), " → ")
}

// StartOrder returns specs in an order in which each container comes after
// those it depends on, and otherwise as given. A circle gives ErrCycle and
// names it, a name that is not there ErrUnknownDependency, as Errors.
func StartOrder(specs []Spec) ([]Spec, error) {
	var errs Errors
	for i := range specs {
		for _, p := range checkSpecDependencies(&specs[i]) {
			errs = append(errs, setError(specs, setProblem{i, p}))
		}
	}
	for _, p := range checkSet(specs) {
		errs = append(errs, setError(specs, p))
	}
	if len(errs) > 0 {
		return nil, errs
	}
	byName := make(map[string]int, len(specs))
	for i, s := range specs {
		byName[s.Name] = i
	}
	order, _ := sortSpecs(specs, byName)
	out := make([]Spec, 0, len(specs))
	for _, i := range order {
		out = append(out, specs[i])
	}
	return out, nil
}

func checkSpecDependencies(s *Spec) findings {
	var f findings
	f.checkDependsOn(s)
	return f
}

// setError says which of several containers has the problem.
func setError(specs []Spec, p setProblem) *Error {
	who := specs[p.index].Name
	if who == "" {
		who = fmt.Sprintf("container %d", p.index+1)
	}
	return &Error{Path: who + ": " + p.path, Message: p.message, Hint: p.hint, cause: p.cause}
}
