// Command typecheck checks, for each of some systems, that all packages of the
// module it runs in are valid Go, with their tests: what the compiler would refuse, and
// nothing more. It compiles nothing, which for a system that a machine has not
// built for before takes many times as long.
//
//	typecheck GOOS/GOARCH...
package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/tools/go/packages"
)

func main() {
	targets := os.Args[1:]
	if len(targets) == 0 {
		fmt.Fprintln(os.Stderr, "usage: typecheck GOOS/GOARCH...")
		os.Exit(2)
	}
	failed := false
	for _, target := range targets {
		n, errs, err := check(target)
		for _, e := range errs {
			fmt.Fprintf(os.Stderr, "typecheck: %s: %s\n", target, e)
		}
		if err != nil {
			fmt.Fprintf(os.Stderr, "typecheck: %s: %v\n", target, err)
		}
		failed = failed || err != nil || len(errs) > 0
		fmt.Printf("typecheck: %s: %d packages\n", target, n)
	}
	if failed {
		os.Exit(1)
	}
}

// check returns how many packages the module has, and what is wrong with them or
// with what they import.
func check(target string) (n int, errs []string, _ error) {
	system, arch, ok := strings.Cut(target, "/")
	if !ok {
		return 0, nil, fmt.Errorf("%q is not GOOS/GOARCH", target)
	}
	all, err := packages.Load(&packages.Config{
		Mode: packages.NeedName | packages.NeedFiles | packages.NeedCompiledGoFiles | packages.NeedImports |
			packages.NeedDeps | packages.NeedTypes | packages.NeedTypesSizes | packages.NeedSyntax | packages.NeedTypesInfo,
		Tests: true,
		Env:   append(os.Environ(), "GOOS="+system, "GOARCH="+arch, "CGO_ENABLED=0"),
	}, "./...")
	if err != nil {
		return 0, nil, err
	}
	if len(all) == 0 {
		return 0, nil, errors.New("there is no package here")
	}
	// A package is there once more as its tests see it.
	seen := map[string]bool{}
	packages.Visit(all, nil, func(p *packages.Package) {
		for _, e := range p.Errors {
			if text := e.Error(); !seen[text] {
				seen[text] = true
				errs = append(errs, text)
			}
		}
	})
	return len(all), errs, nil
}
