package housetest

import (
	"fmt"
	"go/ast"
	"slices"
	"strings"
	"testing"
)

const (
	maxFileLines     = 500
	maxFunctionLines = 60
)

// sleepers are the test files that may call time.Sleep outside a synctest
// bubble, where its clock is not the real one, each with the reason.
var sleepers = map[string]string{
	"internal/stall/stall_test.go":   "its servers are slow on purpose, and all of them run in synctest bubbles",
	"discovery/mdns/cut_test.go":     "all of it runs in synctest bubbles",
	"replica/watch/coalesce_test.go": "all of it runs in synctest bubbles",
	"replica/watch/loop_test.go":     "all of it runs in synctest bubbles",
	"balance/balancetest/traffic.go": "a frontend's status has no event to wait for; it is asked every millisecond, within a bound",
	"balance/helpers_test.go":        "conditions of real connections have no event to wait for; they are asked every millisecond, within a bound",
	"balance/slowstart_test.go":      "all of it runs in synctest bubbles",
	"balance/tcp_test.go":            "a peer that talks slowly is what is tested",
	"runtime/runtimetest/program.go": "it is what containers run: a program that lives until it is stopped",
}

// undocumented returns a complaint for every exported name of a file without a
// doc comment. A group's comment stands for its constants and variables.
func undocumented(s source) []string {
	var complaints []string
	missing := func(name *ast.Ident, docs ...*ast.CommentGroup) {
		if name.IsExported() && !slices.ContainsFunc(docs, func(d *ast.CommentGroup) bool { return d.Text() != "" }) {
			complaints = append(complaints, fmt.Sprintf("%s: %s has no doc comment", s.at(name.Pos()), name.Name))
		}
	}
	for _, decl := range s.file.Decls {
		switch d := decl.(type) {
		case *ast.FuncDecl:
			if d.Recv == nil || ast.IsExported(receiver(d)) {
				missing(d.Name, d.Doc)
			}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				switch sp := spec.(type) {
				case *ast.TypeSpec:
					missing(sp.Name, sp.Doc, d.Doc)
				case *ast.ValueSpec:
					for _, name := range sp.Names {
						missing(name, sp.Doc, sp.Comment, d.Doc)
					}
				}
			}
		}
	}
	return complaints
}

// receiver names the type that a method belongs to.
func receiver(d *ast.FuncDecl) string {
	var name string
	ast.Inspect(d.Recv.List[0].Type, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok && name == "" {
			name = id.Name
		}
		return name == ""
	})
	return name
}

// tooLong returns a complaint for a file or a function beyond its limit.
func tooLong(s source) []string {
	var complaints []string
	if lines := s.fset.File(s.file.Pos()).LineCount(); lines > maxFileLines {
		complaints = append(complaints, fmt.Sprintf("%s has %d lines, more than %d: split it by what is in it", s.path, lines, maxFileLines))
	}
	for _, decl := range s.file.Decls {
		if f, ok := decl.(*ast.FuncDecl); ok {
			lines := s.fset.Position(f.End()).Line - s.fset.Position(f.Pos()).Line + 1
			if lines > maxFunctionLines {
				complaints = append(complaints, fmt.Sprintf("%s: function %s has %d lines, more than %d", s.at(f.Pos()), f.Name.Name, lines, maxFunctionLines))
			}
		}
	}
	return complaints
}

// initFunctions returns a complaint for every init function.
func initFunctions(s source) []string {
	var complaints []string
	for _, decl := range s.file.Decls {
		if f, ok := decl.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
			complaints = append(complaints, s.at(f.Pos())+": init function; importing a package does nothing here")
		}
	}
	return complaints
}

// sleeps returns a complaint for every use of time.Sleep outside an argument
// of synctest.Test, where time is not the machine's.
func sleeps(s source) []string {
	var complaints []string
	ast.Inspect(s.file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr:
			if isSelector(n.Fun, "synctest", "Test") {
				return false
			}
		case *ast.SelectorExpr:
			if isSelector(n, "time", "Sleep") {
				complaints = append(complaints, s.at(n.Pos())+": time.Sleep in a test; wait for the event instead")
			}
		}
		return true
	})
	return complaints
}

func isSelector(e ast.Expr, pkg, name string) bool {
	sel, ok := e.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	id, ok := sel.X.(*ast.Ident)
	return ok && id.Name == pkg && sel.Sel.Name == name
}

// isTestCode is true for tests and for the suites and fakes that tests import.
func isTestCode(s source) bool {
	return s.isTest() || strings.HasSuffix(s.dir(), "test")
}

func isInternal(s source) bool {
	return slices.Contains(strings.Split(s.dir(), "/"), "internal")
}

func TestExportedNamesAreDocumented(t *testing.T) {
	described := make(map[string]bool)
	for _, s := range sources(t) {
		if s.isTest() {
			continue
		}
		described[s.dir()] = described[s.dir()] || s.file.Doc.Text() != ""
		if !isInternal(s) {
			report(t, undocumented(s))
		}
	}
	for dir, ok := range described {
		if !ok {
			t.Errorf("package %s has no package comment", dir)
		}
	}
}

func TestFilesAndFunctionsAreShort(t *testing.T) {
	for _, s := range sources(t) {
		if !s.isTest() {
			report(t, tooLong(s))
		}
	}
}

func TestNothingHappensAtImport(t *testing.T) {
	for _, s := range sources(t) {
		report(t, initFunctions(s))
	}
}

func TestTestsDoNotSleep(t *testing.T) {
	used := make(map[string]bool)
	for _, s := range sources(t) {
		if !isTestCode(s) {
			continue
		}
		found := sleeps(s)
		if sleepers[s.path] == "" {
			report(t, found)
		} else if len(found) > 0 {
			used[s.path] = true
		}
	}
	for path := range sleepers {
		if !used[path] {
			t.Errorf("%s does not sleep: take it off the list", path)
		}
	}
}

func TestChecksNoticeWhatTheyForbid(t *testing.T) {
	long := "package p\nfunc f() {" + strings.Repeat("\n", maxFileLines) + "}"
	cases := []struct {
		name  string
		check func(source) []string
		text  string
		want  int
	}{
		{"documented", undocumented, "package p\n// A is.\ntype A int\n// B.\nfunc (A) B() {}\n// C.\nconst (\nC = 1\nD = 2)", 0},
		{"undocumented", undocumented, "package p\ntype A int\nfunc (*A) B() {}\nvar C int\nfunc D() {}", 4},
		{"unexported", undocumented, "package p\ntype a int\nfunc (a) B() {}\ntype g[T any] int\nfunc (g[T]) C() {}", 0},
		{"directive is no comment", undocumented, "package p\n//go:noinline\nfunc A() {}", 1},
		{"short", tooLong, "package p\nfunc f() {}", 0},
		{"long file and function", tooLong, long, 2},
		{"init", initFunctions, "package p\nfunc init() {}", 1},
		{"method init", initFunctions, "package p\ntype t int\nfunc (t) init() {}", 0},
		{"sleep", sleeps, "package p\nimport \"time\"\nfunc f() { time.Sleep(1) }", 1},
		{"sleep by value", sleeps, "package p\nimport \"time\"\nvar f = time.Sleep", 1},
		{"sleep in a bubble", sleeps, "package p\nfunc f() { synctest.Test(t, func(t *testing.T) { time.Sleep(1) }) }", 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if got := c.check(parse(t, "p.go", c.text)); len(got) != c.want {
				t.Errorf("want %d complaints, got %q", c.want, got)
			}
		})
	}
}
