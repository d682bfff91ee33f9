package bunfile_test

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/budgiehq/budgie/bunfile"
)

var update = flag.Bool("update", false, "write the expected errors of testdata/bad anew")

// forEachFile runs check for every .bun file of a directory of testdata, and
// fails where there are none.
func forEachFile(t *testing.T, dir string, check func(t *testing.T, path string, text []byte)) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join("testdata", dir, "*.bun"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no files in testdata/%s: %v", dir, err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".bun"), func(t *testing.T) {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			check(t, path, text)
		})
	}
}

func TestGoodFiles(t *testing.T) {
	forEachFile(t, "good", func(t *testing.T, path string, text []byte) {
		specs, err := bunfile.Parse(path, text)
		if err != nil {
			t.Fatalf("Parse:\n%v", err)
		}
		checkRoundTrip(t, specs)
		for _, s := range specs {
			if err := s.WithDefaults().Validate(); err != nil {
				t.Errorf("with defaults: %v", err)
			}
		}
		if _, err := bunfile.Load(path); err != nil {
			t.Errorf("Load: %v", err)
		}
	})
}

// checkRoundTrip fails unless specs are the same after Marshal and Parse.
func checkRoundTrip(t rapid.TB, specs []bunfile.Spec) {
	t.Helper()
	text, err := bunfile.Marshal(specs...)
	if err != nil {
		t.Fatalf("Marshal: %v", err)
	}
	again, err := bunfile.ParseUntrusted("again.bun", text)
	if err != nil {
		t.Fatalf("Parse of what Marshal wrote: %v\n%s", err, text)
	}
	if !reflect.DeepEqual(specs, again) {
		t.Fatalf("not the same after Marshal and Parse:\n%+v\n%+v\n%s", specs, again, text)
	}
}

func TestBadFiles(t *testing.T) {
	forEachFile(t, "bad", func(t *testing.T, path string, text []byte) {
		name := filepath.Base(path)
		specs, err := bunfile.Parse(name, text)
		if err == nil {
			t.Fatalf("Parse took it: %+v", specs)
		}
		checkPositions(t, text, err)
		golden := strings.TrimSuffix(path, ".bun") + ".txt"
		got := err.Error() + "\n"
		if *update {
			if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("errors are:\n%swant:\n%s", got, want)
		}
	})
}

// checkPositions fails unless err is Errors in order, each inside the text.
func checkPositions(t rapid.TB, text []byte, err error) {
	t.Helper()
	errs, ok := errors.AsType[bunfile.Errors](err)
	if !ok || len(errs) == 0 {
		t.Fatalf("error is no Errors, or empty: %#v", err)
	}
	unix := strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(strings.TrimPrefix(string(text), "\ufeff"))
	lines := strings.Split(unix, "\n")
	line, column := 0, 0
	for _, e := range errs {
		if e.Line == 0 && e.Column == 0 && len(errs) == 1 {
			return // the file as a whole
		}
		if e.Line < 1 || e.Line > len(lines) || e.Column < 1 || e.Column > len([]rune(lines[e.Line-1]))+1 {
			t.Errorf("%d:%d is not in the text", e.Line, e.Column)
		}
		if e.Line < line || e.Line == line && e.Column < column {
			t.Errorf("%d:%d comes after %d:%d", e.Line, e.Column, line, column)
		}
		line, column = e.Line, e.Column
		if e.Message == "" || strings.ContainsRune(e.Snippet, '\n') {
			t.Errorf("message %q, snippet %q", e.Message, e.Snippet)
		}
	}
}
