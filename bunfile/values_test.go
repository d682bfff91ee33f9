package bunfile

import (
	"slices"
	"testing"
	"time"
)

func TestParseDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0": 0, "10": 10 * time.Second, "1m30s": 90 * time.Second, "500ms": 500 * time.Millisecond, "1.5h": 90 * time.Minute,
		"-3": -3 * time.Second, "-1s": -time.Second, "9223372036": 9223372036 * time.Second,
	} {
		if got, err := parseDuration(text); err != nil || got.Std() != want {
			t.Errorf("%q is %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "s", "010", "1.5", "-0", "-0s", "1 s", "1d", "0x1s", "9223372037", "99999999999999999999", "1e3", "soon"} {
		if got, err := parseDuration(text); err == nil {
			t.Errorf("%q is %v, %v", text, got, err)
		}
	}
}

func TestParseSize(t *testing.T) {
	for text, want := range map[string]Size{
		"0": 0, "1": 1, "536870912": 536870912, "-1": -1, "1b": 1, "64k": 64 << 10, "64K": 64 << 10, "512m": 512 << 20, "2g": 2 << 30, "1t": 1 << 40,
		"512MiB": 512 << 20, "512MB": 512e6, "512mb": 512e6, "1.5GiB": 3 << 29, "1.5 GiB": 3 << 29, "1kB": 1000, "0.5KiB": 512, "0.0001k": 0,
		"9223372036854775807": 1<<63 - 1,
	} {
		if got, err := ParseSize(text); err != nil || got != want {
			t.Errorf("%q is %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "k", "-1k", "1.5", "1.5b", "010", "010k", "1e3", "0x10", "1_000", "1kk", "1x", "1 k b", "1..5k", ".5k", "9223372036854775808", "8388608T", "1Ki", " 1"} {
		if got, err := ParseSize(text); err == nil {
			t.Errorf("%q is %d", text, got)
		}
	}
}

func TestNearest(t *testing.T) {
	keys := names(specFields(&Spec{}))
	for text, want := range map[string]string{
		"prots": "ports", "port": "ports", "Name": "name", "env-file": "env_file", "envFile": "env_file", "enviroment": "environment",
		"helthchek": "healthcheck", "replica": "replicas", "nmae": "name", "resource": "resources", "dependsOn": "depends_on",
		"zzz": "", "": "", "foo": "", "ip": "",
	} {
		if got := nearest(text, keys); got != want {
			t.Errorf("%q is near %q, want %q", text, got, want)
		}
	}
	if got := nearest("ra", []string{"rw", "ro"}); got != "" {
		t.Errorf("of two that are equally near, %q was taken", got)
	}
}

func TestEditDistance(t *testing.T) {
	for _, test := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"a", "", 1}, {"", "ab", 2}, {"ab", "ba", 1}, {"ports", "prots", 1}, {"kitten", "sitting", 3}, {"abc", "abc", 0}} {
		if got := editDistance(test.a, test.b); got != test.want {
			t.Errorf("%q to %q takes %d, want %d", test.a, test.b, got, test.want)
		}
	}
}

func TestOrList(t *testing.T) {
	if got := []string{orList(nil), orList([]string{"a"}), orList([]string{"a", "b"}), orList([]string{"a", "b", "c"})}; !slices.Equal(got, []string{"", "a", "a or b", "a, b or c"}) {
		t.Errorf("%q", got)
	}
}

func TestDurationText(t *testing.T) {
	var d Duration
	if err := d.UnmarshalText([]byte("1m30s")); err != nil || d.Std() != 90*time.Second || d.String() != "1m30s" {
		t.Errorf("%v, %v", d, err)
	}
	if err := d.UnmarshalText([]byte("soon")); err == nil {
		t.Error("soon is a duration")
	}
}
