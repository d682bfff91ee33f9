package bunfile

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

type fence struct {
	line     int
	language string
	text     string
}

func docFences(t *testing.T) (fences []fence, text string) {
	t.Helper()
	data, err := os.ReadFile("../docs/bunfile.md")
	if err != nil {
		t.Fatal(err)
	}
	var open *fence
	for i, line := range strings.Split(string(data), "\n") {
		language, isFence := strings.CutPrefix(line, "```")
		switch {
		case isFence && open == nil:
			open = &fence{line: i + 1, language: language}
		case isFence:
			fences = append(fences, *open)
			open = nil
		case open != nil:
			open.text += line + "\n"
		}
	}
	return fences, string(data)
}

// TestDocExamples checks that every example of the reference is taken, or gives
// the errors that stand below it.
func TestDocExamples(t *testing.T) {
	fences, _ := docFences(t)
	examples := map[string]int{}
	for i, f := range fences {
		var err error
		switch f.language {
		case "yaml":
			_, err = Parse("web.bun", []byte(f.text))
		case "env":
			if _, errs := parseEnvFile("web.env", []byte(f.text)); len(errs) > 0 {
				err = errs
			}
		default:
			continue
		}
		examples[f.language]++
		want := "<nil>"
		if i+1 < len(fences) && fences[i+1].language == "text" {
			want = strings.TrimSuffix(fences[i+1].text, "\n")
			examples["text"]++
		}
		if got := fmt.Sprint(err); got != want {
			t.Errorf("docs/bunfile.md:%d gives\n%s\nand not\n%s", f.line, got, want)
		}
	}
	if examples["yaml"] < 5 || examples["env"] < 2 || examples["text"] < 5 {
		t.Errorf("examples that were found: %v", examples)
	}
}

// TestDocKeys checks that the reference has every key.
func TestDocKeys(t *testing.T) {
	_, text := docFences(t)
	for _, section := range sections() {
		for _, key := range section.keys {
			path := key
			switch section.path {
			case "":
			case "ports", "volumes":
				path = section.path + "[]." + key
			default:
				path = section.path + "." + key
			}
			if !regexp.MustCompile("(?m)^\\| `" + regexp.QuoteMeta(path) + "(`|\\[|\\.)").MatchString(text) {
				t.Errorf("docs/bunfile.md lacks %s", path)
			}
		}
	}
}

// TestDocLimits checks the numbers of the reference.
func TestDocLimits(t *testing.T) {
	_, text := docFences(t)
	for _, want := range []string{
		fmt.Sprintf("%d KiB", MaxSize>>10), "1,000 documents", "50,000 YAML tokens (10,000 in one document)",
		fmt.Sprintf("%d levels", maxDepth), fmt.Sprintf("%d blank lines", maxBlankLines), "1,000 tabs", fmt.Sprintf("%d `<`", maxLessThan),
		fmt.Sprintf("expand to at most %d MiB", maxExpansion>>20), fmt.Sprintf("After %d problems", maxErrors),
		"`" + Duration(DefaultStopTimeout).String() + "`", "`" + Duration(DefaultHealthInterval).String() + "`", "`" + Duration(DefaultHealthTimeout).String() + "`",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("docs/bunfile.md does not say %s", want)
		}
	}
	if maxDocuments != 1_000 || maxTokens != 50_000 || maxDocumentTokens != 10_000 || maxLineTabs != 1_000 {
		t.Error("the limits in docs/bunfile.md have changed")
	}
}
