package housetest

import (
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
)

// forbidden are the modules that nobody gets who imports the root package,
// each with the reason.
var forbidden = []struct{ prefix, reason string }{
	{"github.com/containerd/", "containerd is opt-in, by importing runtime/containerd"},
	{"google.golang.org/grpc", "comes with containerd's client and its megabytes; peers speak HTTP"},
	{"google.golang.org/protobuf", "comes with gRPC; nothing of Budgie's own is protobuf"},
	{"google.golang.org/genproto", "comes with gRPC"},
	{"k8s.io/", "there is no control plane, and Kubernetes modules force their versions on the user"},
	{"sigs.k8s.io/", "there is no control plane, and Kubernetes modules force their versions on the user"},
	{"github.com/docker/", "no Docker daemon is involved, and its module tree conflicts with many users' own"},
	{"github.com/moby/", "as github.com/docker"},
	{"github.com/opencontainers/runc", "brings cgo and seccomp; containerd runs containers, the library does not"},
	{"go.opentelemetry.io/", "comes with containerd; the library has no global metrics"},
	{"github.com/prometheus/", "registers global metrics at import; balance/balanceprom is opt-in, by importing it"},
	{"honnef.co/go/", "tools belong to the tools module"},
}

// forbiddenIn returns a complaint for every module of the list that is
// forbidden.
func forbiddenIn(modules []string) []string {
	var complaints []string
	for _, m := range modules {
		for _, f := range forbidden {
			if strings.HasPrefix(m, f.prefix) || m == strings.TrimSuffix(f.prefix, "/") {
				complaints = append(complaints, fmt.Sprintf("the root package depends on %s: %s", m, f.reason))
			}
		}
	}
	return complaints
}

func TestRootIsLight(t *testing.T) {
	for _, goos := range systems {
		t.Run(goos, func(t *testing.T) {
			var modules []string
			for _, p := range goList(t, goos, "-deps", module) {
				if p.Module != nil && !slices.Contains(modules, p.Module.Path) {
					modules = append(modules, p.Module.Path)
				}
			}
			if !slices.Contains(modules, module) {
				t.Fatalf("go list -deps does not list the module itself: %v", modules)
			}
			report(t, forbiddenIn(modules))
		})
	}
}

func TestForbiddenModulesAreNoticed(t *testing.T) {
	got := forbiddenIn([]string{module, "github.com/containerd/containerd/v2", "google.golang.org/grpc", "golang.org/x/net"})
	if len(got) != 2 {
		t.Errorf("want complaints about containerd and gRPC alone, got %q", got)
	}
}

// Users of the library resolve what its go.mod names, used or not.
func TestToolsAreNotInherited(t *testing.T) {
	text, err := os.ReadFile(root + "/go.mod")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if word := strings.Fields(line); len(word) > 0 && (word[0] == "tool" || strings.HasPrefix(word[0], "honnef.co/")) {
			t.Errorf("go.mod: %q belongs in tools/go.mod", strings.TrimSpace(line))
		}
	}
}

// vocabulary are the packages of words and rules, which know no
// implementation.
var vocabulary = []string{"bunfile", "lifecycle", "trust", "runtime", "discovery", "balance", "store", "replica"}

// arrows says which packages of the module the non-test files of a package may
// import. Both sides are patterns of path.Match over paths relative to the
// module; the first pattern that matches a package counts. A package that no
// pattern matches needs an entry; an entry without a package does no harm.
var arrows = []struct {
	of  string
	may []string
}{
	{"bunfile", []string{"internal/*"}},
	{"lifecycle", []string{"bunfile"}},
	{"trust", []string{"internal/*"}},
	{"replica", []string{"replica/watch", "internal/*"}},
	{"replica/replicatest", []string{"replica", "replica/watch", "internal/*"}},
	// It is all tests.
	{"replica/torture", nil},
	{"replica/watch", []string{"internal/*"}},
	{"replica/watch/watchtest", []string{"replica/watch"}},
	{"runtime", []string{"bunfile", "lifecycle"}},
	{"runtime/*", []string{"bunfile", "lifecycle", "runtime", "internal/*"}},
	{"runtime/process/*", []string{"bunfile", "lifecycle", "runtime", "internal/*"}},
	{"runtime/containerd/*", []string{"bunfile", "lifecycle", "runtime", "internal/*"}},
	{"discovery", []string{"bunfile", "internal/*"}},
	{"discovery/*", []string{"bunfile", "discovery", "internal/*"}},
	{"discovery/mdns/*", []string{"bunfile", "discovery", "internal/*"}},
	{"balance", []string{"bunfile", "internal/*"}},
	{"balance/*", []string{"bunfile", "balance", "internal/*"}},
	{"store", []string{"bunfile", "lifecycle"}},
	{"store/*", []string{"bunfile", "lifecycle", "store", "internal/*"}},
	{"peer", append([]string{"internal/*"}, vocabulary...)},
	{"peer/*", append([]string{"peer", "internal/*"}, vocabulary...)},
	// The program that test containers run is the suite's.
	{"internal/containerprogram", []string{"runtime/runtimetest"}},
	// Helpers know words at most.
	{"internal/*", append([]string{"internal/*"}, vocabulary...)},
	// The root wires the defaults, and nothing that is opt-in.
	{".", append([]string{"runtime/process", "discovery/mdns", "discovery/static", "store/file", "store/memory", "peer", "internal/*"}, vocabulary...)},
	// Who chooses may know everything but other programs; suites and fakes are
	// for tests.
	{"cmd/*", append([]string{".", "balance/accesslog", "runtime/process", "runtime/containerd", "discovery/mdns", "discovery/static", "store/file", "store/memory", "peer", "internal/*", "cmd/budgie/*"}, vocabulary...)},
	{"cmd/budgie/*", append([]string{".", "balance/accesslog", "runtime/process", "runtime/containerd", "discovery/mdns", "discovery/static", "store/file", "store/memory", "peer", "internal/*", "cmd/budgie/*"}, vocabulary...)},
	// It measures an implementation by itself.
	{"bench/discovery", append([]string{"discovery/mdns", "internal/*"}, vocabulary...)},
	// It measures volumes alone, between nodes that have nothing else.
	{"bench/sync", append([]string{".", "peer", "internal/*"}, vocabulary...)},
	// It is the suite, run as a command.
	{"bench/behaviour", append([]string{".", "balance/behaviourtest", "internal/*"}, vocabulary...)},
	{"bench/*", append([]string{".", "internal/*"}, vocabulary...)},
	{"examples/fakes", append([]string{".", "runtime/runtimetest", "discovery/discoverytest", "replica/replicatest", "balance/balancetest", "store/storetest", "store/memory"}, vocabulary...)},
	// It makes an image on the spot, so that nothing has to be fetched.
	{"examples/replicated-web", append([]string{".", "runtime/process", "runtime/containerd", "internal/ociimage"}, vocabulary...)},
	{"examples/*", append([]string{".", "runtime/process", "runtime/containerd", "discovery/mdns", "discovery/static", "store/file", "store/memory", "peer"}, vocabulary...)},
}

// wrongArrows returns a complaint for every import of a package that the table
// does not allow. Paths are relative to the module.
//
// A package's own internal packages are part of it: they may import what it
// may, and the compiler sees to it that nobody else imports them.
func wrongArrows(of string, imports []string) []string {
	imports = slices.DeleteFunc(slices.Clone(imports), func(i string) bool { return strings.Contains(i, "/internal/") })
	of, _, _ = strings.Cut(of, "/internal/")
	for _, rule := range arrows {
		if !match(rule.of, of) {
			continue
		}
		var complaints []string
		for _, i := range imports {
			if !slices.ContainsFunc(rule.may, func(p string) bool { return match(p, i) }) {
				complaints = append(complaints, fmt.Sprintf("%s imports %s; it may import only %s", of, i, strings.Join(rule.may, ", ")))
			}
		}
		return complaints
	}
	return []string{fmt.Sprintf("package %s has no entry in the table of arrows: say there what it may import", of)}
}

func match(pattern, name string) bool {
	ok, err := path.Match(pattern, name)
	return ok && err == nil
}

func TestArrowsPointOneWay(t *testing.T) {
	for _, goos := range systems {
		t.Run(goos, func(t *testing.T) {
			packages := goList(t, goos, "./...")
			if len(packages) < 5 {
				t.Fatalf("go list lists only %d packages", len(packages))
			}
			for _, p := range packages {
				var own []string
				for _, i := range p.Imports {
					if rel, ok := relative(i); ok {
						own = append(own, rel)
					}
				}
				of, _ := relative(p.ImportPath)
				report(t, wrongArrows(of, own))
			}
		})
	}
}

// relative turns an import path of this module into one relative to it.
func relative(importPath string) (string, bool) {
	if importPath == module {
		return ".", true
	}
	return strings.CutPrefix(importPath, module+"/")
}

func TestWrongArrowsAreNoticed(t *testing.T) {
	cases := []struct {
		of      string
		imports []string
		want    int
	}{
		{"bunfile", nil, 0},
		{"bunfile", []string{"lifecycle"}, 1},
		{"store/file", []string{"store", "lifecycle", "internal/testenv"}, 0},
		{"store/file", []string{"."}, 1},
		{"store/file", []string{"store/memory"}, 1},
		{"runtime/process", []string{"discovery", "store"}, 2},
		{".", []string{"runtime/process", "runtime/containerd"}, 1},
		{".", []string{"cmd/budgie"}, 1},
		{"cmd/budgie", []string{".", "runtime/containerd"}, 0},
		{"cmd/budgie", []string{"store/storetest"}, 1},
		{"newcomer", nil, 1},
		{"store/file/internal/x", []string{"store", "peer"}, 1},
		{"store/file", []string{"store/file/internal/x"}, 0},
	}
	for _, c := range cases {
		if got := wrongArrows(c.of, c.imports); len(got) != c.want {
			t.Errorf("%s importing %v: want %d complaints, got %q", c.of, c.imports, c.want, got)
		}
	}
}
