package benchreport

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
)

// marks are the lines between which the section of a benchmark stands.
func marks(name string) (begin, end string) {
	return "<!-- begin " + name + " -->\n", "<!-- end " + name + " -->\n"
}

// WriteSection puts text in place of the section of a benchmark, such as
// bench/start, that a file has. A file without such a section is an error, and
// left as it is.
func WriteSection(file, name, text string) error {
	old, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	now, err := replaceSection(old, name, text)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return os.WriteFile(file, now, 0o644)
}

func replaceSection(file []byte, name, text string) ([]byte, error) {
	begin, end := marks(name)
	head, rest, found := bytes.Cut(file, []byte(begin))
	_, tail, closed := bytes.Cut(rest, []byte(end))
	if !found || !closed {
		return nil, errors.New("there is no place for the result: write the lines " + begin + " and " + end + " into it")
	}
	return fmt.Appendf(nil, "%s%s\n%s\n%s%s", head, begin, strings.TrimSpace(text), end, tail), nil
}
