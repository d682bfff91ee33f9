package balance

import (
	"net/http"
	"slices"
	"strings"
	"testing"
)

func TestBudgieStatus(t *testing.T) {
	tests := []struct {
		name   string
		lines  []string
		reason string
		kept   []string
	}{
		{"none", nil, "", nil},
		{"ours", []string{"budgie; error=connection_refused"}, connectionRefused, nil},
		{"no space", []string{"budgie;error=destination_unavailable"}, destinationUnavailable, nil},
		{"as a string", []string{`"budgie"; error=connection_terminated`}, connectionTerminated, nil},
		{"others", []string{"cdn; error=dns_error"}, "", []string{"cdn; error=dns_error"}},
		{"the nearest counts", []string{"budgie; error=connection_terminated, cdn, budgie; error=connection_refused"},
			connectionRefused, []string{"cdn"}},
		{"over lines", []string{"cdn", "budgie; error=connection_refused", "edge; received-status=503"},
			connectionRefused, []string{"cdn, edge; received-status=503"}},
		{"without an error", []string{"budgie"}, "", nil},
		{"a name inside a string", []string{`cdn; details="a, budgie; error=connection_refused"`}, "",
			[]string{`cdn; details="a, budgie; error=connection_refused"`}},
		{"an escaped quote", []string{`cdn; details="\", budgie; error=x"`}, "", []string{`cdn; details="\", budgie; error=x"`}},
		{"an error inside a string", []string{`budgie; details="; error=connection_refused"`}, "", nil},
		{"a longer name", []string{"budgie2; error=connection_refused"}, "", []string{"budgie2; error=connection_refused"}},
		{"rubbish", []string{`,;=,"`}, "", []string{`;=, "`}},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			h := http.Header{}
			if tc.lines != nil {
				h[proxyStatusField] = tc.lines
			}
			if got, ok := budgieStatus(h); got != tc.reason || ok != (tc.reason != "") {
				t.Errorf("reason = %q, %v; want %q", got, ok, tc.reason)
			}
			hideProxyStatus(h)
			if got := h[proxyStatusField]; !slices.Equal(got, tc.kept) {
				t.Errorf("kept %q; want %q", got, tc.kept)
			}
		})
	}
}

// Whatever a backend sends, nothing of this proxy's name is left afterwards.
func FuzzHideProxyStatus(f *testing.F) {
	for _, s := range []string{"budgie; error=connection_refused", `a; b=", budgie", "budgie"`, `"\`, ",,;", "budgie,budgie;x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		h := http.Header{proxyStatusField: {line}}
		before := strings.Clone(line)
		hideProxyStatus(h)
		if reason, ok := budgieStatus(h); ok {
			t.Errorf("%q is left with reason %q of %q", h[proxyStatusField], reason, before)
		}
	})
}
