package logfile

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/budgiehq/budgie/runtime"
)

func TestParseRecord(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 678, time.UTC)
	for _, test := range []struct {
		line string
		want record
	}{
		{"2026-01-02T03:04:05.000000678Z stdout F text", record{at, runtime.Stdout, false, []byte("text")}},
		{"2026-01-02T03:04:05.000000678Z stderr P  two spaces ", record{at, runtime.Stderr, true, []byte(" two spaces ")}},
		{"2026-01-02T03:04:05.000000678Z stdout F ", record{at, runtime.Stdout, false, nil}},
		{"2026-01-02T03:04:05.000000678Z stdout P:tag more", record{at, runtime.Stdout, true, []byte("more")}},
		{"2026-01-02T05:04:05.000000678+02:00 stdout F \xff\x00", record{at, runtime.Stdout, false, []byte("\xff\x00")}},
	} {
		got, err := parseRecord([]byte(test.line))
		if err != nil || !got.at.Equal(test.want.at) || got.stream != test.want.stream || got.partial != test.want.partial || !bytes.Equal(got.text, test.want.text) {
			t.Errorf("%q is %+v, %v, want %+v", test.line, got, err, test.want)
		}
	}
	for _, line := range []string{
		"", " ", "text", "2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z stdout F", "yesterday stdout F text",
		"2026-01-02T03:04:05Z stdlog F text", "2026-01-02T03:04:05Z stdout X text", "2026-01-02T03:04:05Z stdout  text",
	} {
		if got, err := parseRecord([]byte(line)); err == nil {
			t.Errorf("%q is taken for the record %+v", line, got)
		}
	}
}

// FuzzParseRecord: damage is never fatal, and what is read is written again as
// it was, apart from the time's form and further tags.
func FuzzParseRecord(f *testing.F) {
	f.Add([]byte("2026-01-02T03:04:05.000000678Z stdout F text"))
	f.Add([]byte("2026-01-02T03:04:05+02:00 stderr P:a:b \x00\xff"))
	f.Add([]byte("9999-12-31T23:59:59Z stdout F "))
	f.Add([]byte("2026-01-02T03:04:05Z stdout F"))
	f.Fuzz(func(t *testing.T, line []byte) {
		r, err := parseRecord(line)
		if err != nil || bytes.IndexByte(line, '\n') >= 0 {
			return
		}
		if r.at.UTC().Year() > 9999 || r.at.UTC().Year() < 0 {
			return // an offset took it out of what RFC 3339 can say
		}
		stored := appendRecord(nil, r)
		again, err := parseRecord(bytes.TrimSuffix(stored, []byte("\n")))
		if err != nil || !again.at.Equal(r.at) || again.stream != r.stream || again.partial != r.partial || !bytes.Equal(again.text, r.text) {
			t.Fatalf("%q is read as %+v, written as %q and then read as %+v, %v", line, r, stored, again, err)
		}
	})
}

func TestJoinerBound(t *testing.T) {
	var j joiner
	piece := record{stream: runtime.Stdout, partial: true, text: []byte(strings.Repeat("x", maxText))}
	total, entries := 0, 0
	for range 3 * MaxLine / maxText {
		e, ok := j.add(piece)
		if len(e.Line) > MaxLine {
			t.Fatalf("an entry of %d bytes", len(e.Line))
		}
		if ok {
			entries++
			total += len(e.Line)
		}
	}
	for _, e := range j.rest() {
		entries++
		total += len(e.Line)
	}
	if entries != 3 || total != 3*MaxLine {
		t.Fatalf("%d entries with %d bytes, want 3 with %d", entries, total, 3*MaxLine)
	}
}
