package budgie_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/budgiehq/budgie/bunfile"
)

// blocks returns the fenced blocks of a language in README.md.
func blocks(t *testing.T, language string) []string {
	t.Helper()
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	parts := strings.Split(string(text), "```")
	for i := 1; i < len(parts); i += 2 {
		if lang, body, ok := strings.Cut(parts[i], "\n"); ok && lang == language {
			found = append(found, body)
		}
	}
	return found
}

// The program in the README is the one that is compiled and run.
func TestReadmeProgramIsTheExample(t *testing.T) {
	source, err := os.ReadFile(filepath.Join("examples", "embed", "main.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, program := range blocks(t, "go") {
		if !strings.Contains(string(source), program) {
			t.Errorf("examples/embed/main.go does not contain:\n%s", program)
		}
	}
}

func TestReadmeBunFileParses(t *testing.T) {
	for _, text := range blocks(t, "yaml") {
		if _, err := bunfile.Parse("web.bun", []byte(text)); err != nil {
			t.Error(err)
		}
	}
}

func TestReadmeBeginsWithTheTwoCommands(t *testing.T) {
	first := blocks(t, "")[0]
	if first != "go run ./examples/replicated-web\nmake test\n" {
		t.Errorf("got %q", first)
	}
}

// The links of the documentation lead somewhere.
func TestDocumentationLinks(t *testing.T) {
	files, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range append(files, "README.md") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range strings.Split(string(text), "](")[1:] {
			target, _, _ := strings.Cut(part, ")")
			target, _, _ = strings.Cut(target, "#")
			if target == "" || strings.Contains(target, "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(file), target)); err != nil {
				t.Errorf("%s: %v", file, err)
			}
		}
	}
}
