package budgie

import (
	"slices"
	"strings"
	"testing"
)

func TestParsePeers(t *testing.T) {
	good := map[string]string{
		"192.168.1.20":        "192.168.1.20:18733",
		"192.168.1.20:1":      "192.168.1.20:1",
		"nas":                 "nas:18733",
		"nas.example.:18734":  "nas.example.:18734",
		"my_nas":              "my_nas:18733",
		"::1":                 "[::1]:18733",
		"[::1]":               "[::1]:18733",
		"[fe80::1%eth0]:1234": "[fe80::1%eth0]:1234",
	}
	for text, want := range good {
		if got, err := parsePeers([]string{text}); err != nil || !slices.Equal(got, []string{want}) {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
	for _, text := range []string{
		"", ":1", "[::1", "::1]", "[nas", "[[::1]]", "-x", "a\nb", "a b", "nas/x", strings.Repeat("a", 5000), strings.Repeat("a.", 127) + "a",
		":::", "1.2.3.4:99999", "1.2.3.4:0", "127.0.0.1:18733/../x", "nas:http", "a..b", "1.2.3.4:18733:1",
	} {
		got, err := parsePeers([]string{text})
		if err == nil {
			t.Errorf("%q is accepted as %q", text, got)
		} else if len(err.Error()) > 400 {
			t.Errorf("the error has %d bytes", len(err.Error()))
		}
	}
}
