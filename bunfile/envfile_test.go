package bunfile

import (
	"slices"
	"strings"
	"testing"
)

func TestEnvFile(t *testing.T) {
	entries, errs := parseEnvFile("web.env", []byte("\ufeff# comment\r\n"+`
A=1
export B=two words
  C = spaced
export=a key
exported=another
D=# no comment
E=$HOME ${X} \n
F="a\tb\n\"\\\$"
G='it\n"s' # comment
H=""
I=
J=a=b=c
K="#"  # yes
L=日本
M=it's
`))
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	want := []string{"A=1", "B=two words", "C=spaced", "export=a key", "exported=another", "D=# no comment", `E=$HOME ${X} \n`,
		"F=a\tb\n\"\\$", `G=it\n"s`, "H=", "I=", "J=a=b=c", "K=#", "L=日本", "M=it's"}
	if !slices.Equal(entries, want) {
		t.Errorf("entries are\n%q, want\n%q", entries, want)
	}
}

func TestEnvFileErrors(t *testing.T) {
	for _, test := range []struct{ text, want string }{
		{"just words", "web.env:1:1: this line has no =: want KEY=value, a comment that starts with #, or a blank line\n  hint: a value cannot go on in the next line; in double quotes, write \\n for a line break"},
		{"\n =v", "web.env:2:2: the variable has no name: want KEY=value\n  2 |  =…\n    |  ^"},
		{"export A B=secret", "web.env:1:8: \"A B\" is not the name of a variable: want no blanks, control characters or =\n  1 | export A B=…\n    |        ^"},
		{"A=1\nA=secret", "web.env:2:1: variable \"A\" is given twice; first on line 1\n  2 | A=…\n    | ^\n  hint: delete one of them"},
		{"A='secret", "web.env:1:3: the quote is not closed on this line\n  1 | A=…\n    |   ^"},
		{`A="secret\`, "web.env:1:3: the quote is not closed on this line\n  1 | A=…\n    |   ^"},
		{`A="secret" secret`, "web.env:1:3: there is text after the closing quote\n  1 | A=…\n    |   ^"},
		{`A="secret"#secret`, "web.env:1:3: there is text after the closing quote\n  1 | A=…\n    |   ^"},
		{`A="secret\q"`, "web.env:1:3: unknown escape in double quotes: want \\n, \\t, \\r, \\\", \\$ or \\\\\n  1 | A=…\n    |   ^"},
		{"A=secret\x00", "web.env:1:9: control character U+0000 is not allowed\n  hint: an env_file has one KEY=value per line, in UTF-8"},
		{"A=secret\xff", "web.env:1:9: byte 0xff is not UTF-8 text\n  hint: an env_file has one KEY=value per line, in UTF-8"},
	} {
		entries, errs := parseEnvFile("web.env", []byte(test.text))
		if got := errs.Error(); got != test.want || len(entries) > 1 {
			t.Errorf("%q: %q\n%s\nwant\n%s", test.text, entries, got, test.want)
		}
	}
}

func TestEnvFileReportsAtMost(t *testing.T) {
	_, errs := parseEnvFile("web.env", []byte(strings.Repeat("x\n", 2*maxErrors)))
	if len(errs) != maxErrors {
		t.Errorf("%d errors", len(errs))
	}
}

func TestMergeEnvironment(t *testing.T) {
	got := mergeEnvironment([]string{"A=1", "B=2", "C=3"}, []string{"B=own", "D="})
	if want := []string{"A=1", "C=3", "B=own", "D="}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got := mergeEnvironment(nil, nil); got != nil {
		t.Errorf("%q of nothing", got)
	}
}
