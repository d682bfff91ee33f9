package bunfile

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzParse looks for texts that panic, give errors outside the text, are
// taken although the rules refuse them, or do not survive Marshal.
func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/*/*.bun")
	if err != nil || len(files) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	schema := compileSchema(f)
	f.Fuzz(func(t *testing.T, text []byte) {
		specs, err := Parse("web.bun", text)
		if err != nil {
			checkErrors(t, text, err)
			return
		}
		for _, s := range specs {
			if err := s.Validate(); err != nil {
				t.Fatalf("Parse takes what Validate refuses: %v", err)
			}
		}
		if refusal, ok := schemaVerdict(t, schema, text); refusal != nil || !ok {
			t.Fatalf("Parse takes what the schema refuses: %v", refusal)
		}
		written, err := Marshal(specs...)
		if err != nil {
			if len(text) > MaxSize/8 {
				return // the text became too long, by escapes or aliases
			}
			t.Fatalf("Marshal: %v", err)
		}
		again, err := ParseUntrusted("again.bun", written)
		if err != nil || !reflect.DeepEqual(specs, again) {
			t.Fatalf("after Marshal: %v\n%s\n%+v\n%+v", err, written, specs, again)
		}
	})
}

func checkErrors(t *testing.T, text []byte, err error) {
	errs, ok := err.(Errors)
	if !ok || len(errs) == 0 || len(errs) > maxErrors {
		t.Fatalf("error is no Errors of usual length: %#v", err)
	}
	if !utf8.ValidString(err.Error()) || strings.ContainsFunc(err.Error(), func(r rune) bool { return r < ' ' && r != '\n' }) {
		t.Fatalf("the error is not printable: %q", err)
	}
	src, _ := newSource("web.bun", text)
	if !slices.IsSortedFunc(errs, func(a, b *Error) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Column - b.Column
	}) {
		t.Fatalf("not in order: %v", err)
	}
	for _, e := range errs {
		if e.Message == "" {
			t.Fatalf("an error says nothing: %#v", e)
		}
		if e.Line == 0 && len(errs) == 1 {
			continue
		}
		if e.Line < 1 || e.Line > len(src.lines) || e.Column < 1 || e.Column > utf8.RuneCountInString(src.lines[e.Line-1])+1 {
			t.Fatalf("%d:%d is not in the text", e.Line, e.Column)
		}
	}
}

// FuzzEnvFile looks for texts that panic, show a value in an error, or make
// entries that no process could have.
func FuzzEnvFile(f *testing.F) {
	for _, seed := range []string{"A=1\n", "export A='b' # c\n", "A=\"\\n\\$\"\n", "# c\n\n\tA = b \n", "A=1\nA=2", "A", "=", "A='", "\ufeffA=1\r\nB=2\r"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		entries, errs := parseEnvFile("web.env", text)
		line := 0
		for _, e := range errs {
			if e.Message == "" || e.Line < line {
				t.Fatalf("errors without text or order: %v", errs)
			}
			line = e.Line
			if _, value, _ := strings.Cut(e.Snippet, "="); strings.Trim(value, "…") != "" {
				t.Fatalf("the error shows a value: %q", e.Snippet)
			}
		}
		s := Spec{Version: Version, Name: "a", Image: Image{DockerImage: "a"}, Environment: entries}
		if err := s.Validate(); err != nil {
			t.Fatalf("%v", err)
		}
		for _, entry := range entries {
			key, value, _ := strings.Cut(entry, "=")
			quoted := key + "=\"" + strings.NewReplacer("\\", `\\`, "\"", `\"`, "\n", `\n`, "\r", `\r`, "\t", `\t`).Replace(value) + "\""
			again, errs := parseEnvFile("again.env", []byte(quoted))
			if len(errs) > 0 || len(again) != 1 || again[0] != entry {
				t.Fatalf("%q in quotes is %q, %v", entry, again, errs)
			}
		}
	})
}
