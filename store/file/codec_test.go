package file

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/budgiehq/budgie/store"
)

const oneRecord = `{
  "version": 1,
  "revision": 7,
  "containers": [
    {
      "id": "aa",
      "name": "web",
      "service_id": "",
      "spec": {
        "version": "1.0",
        "image": {
          "command": [
            "echo",
            "<&>"
          ]
        }
      },
      "runtime": "process",
      "owner": "",
      "desired": "running",
      "state": "created",
      "created_at": "2026-01-02T03:04:05.000000006Z",
      "revision": 5
    }
  ]
}
`

const noRecord = "{\n  \"version\": 1,\n  \"revision\": 0,\n  \"containers\": []\n}\n"

// The form is a promise to people and programs that look into the file.
func TestForm(t *testing.T) {
	for name, text := range map[string]string{"one record": oneRecord, "no record": noRecord} {
		t.Run(name, func(t *testing.T) {
			s, err := decode([]byte(text))
			if err != nil {
				t.Fatal(err)
			}
			var b bytes.Buffer
			if err := encode(&b, s); err != nil {
				t.Fatal(err)
			}
			if b.String() != text {
				t.Errorf("want\n%s\ngot\n%s", text, b.String())
			}
		})
	}
}

// What encode assembles from parts is what package json makes of the whole.
func TestFormIsThatOfPackageJSON(t *testing.T) {
	s := emptySnapshot()
	doc := document{Version: formatVersion}
	for n := range 3 {
		c := record(n)
		c.CreatedAt = time.Unix(int64(n), 0)
		c, err := store.Canonical(c)
		if err != nil {
			t.Fatal(err)
		}
		if c, err = s.table.Put(c); err != nil {
			t.Fatal(err)
		}
		doc.Containers = append(doc.Containers, c)
	}
	doc.Revision = s.table.Revision()
	var got, want bytes.Buffer
	if err := encode(&got, s); err != nil {
		t.Fatal(err)
	}
	enc := json.NewEncoder(&want)
	enc.SetIndent("", "  ")
	if err := enc.Encode(doc); err != nil {
		t.Fatal(err)
	}
	if got.String() != want.String() {
		t.Errorf("want\n%s\ngot\n%s", want.String(), got.String())
	}
}

// refusals are texts that are no state, with why not.
func refusals() map[string]struct {
	text string
	want error
	says string
} {
	type refusal = struct {
		text string
		want error
		says string
	}
	change := func(from, to string) string { return strings.Replace(oneRecord, from, to, 1) }
	twice := strings.TrimSuffix(oneRecord, "\n  ]\n}\n") + "," + oneRecord[strings.Index(oneRecord, "    {"):]
	return map[string]refusal{
		"empty":               {"", store.ErrCorrupt, "empty"},
		"blank":               {" \n", store.ErrCorrupt, "empty"},
		"zeros":               {"\x00\x00\x00\x00", store.ErrCorrupt, "line 1"},
		"truncated":           {oneRecord[:len(oneRecord)/2], store.ErrCorrupt, "line "},
		"last brace missing":  {strings.TrimSuffix(oneRecord, "}\n"), store.ErrCorrupt, "line "},
		"garbage after":       {oneRecord + "x", store.ErrCorrupt, "line 2"},
		"two documents":       {oneRecord + oneRecord, store.ErrCorrupt, "line 2"},
		"not an object":       {"[1]", store.ErrCorrupt, "line 1"},
		"null":                {"null", store.ErrCorrupt, "no version"},
		"no version":          {"{}", store.ErrCorrupt, "no version"},
		"version 0":           {change(`"version": 1`, `"version": 0`), store.ErrCorrupt, "version 0"},
		"newer version":       {`{"version": 2, "boxes": 3}`, store.ErrVersion, "version 2"},
		"unknown field":       {change(`"revision": 7`, `"revision": 7, "colour": 1`), store.ErrVersion, "colour"},
		"unknown inner field": {change(`"owner"`, `"colour": 1, "owner"`), store.ErrVersion, "colour"},
		"wrong type":          {change(`"web"`, `3`), store.ErrCorrupt, "line 7"},
		"bad time":            {change("2026-01", "2026-31"), store.ErrCorrupt, "2026-31"},
		"no id":               {change(`"aa"`, `""`), store.ErrCorrupt, "without an id"},
		"no name":             {change(`"web"`, `""`), store.ErrCorrupt, "without a name"},
		"same id twice":       {twice, store.ErrCorrupt, "id of another"},
		"same name twice":     {strings.Replace(twice, `"aa"`, `"bb"`, 1), store.ErrCorrupt, "name of another"},
		"revision 0":          {change(`"revision": 5`, `"revision": 0`), store.ErrCorrupt, "revision 0"},
		"revision ahead":      {change(`"revision": 5`, `"revision": 8`), store.ErrCorrupt, "revision 8"},
		"revision overflow":   {change(`"revision": 7`, `"revision": 18446744073709551615`), store.ErrCorrupt, "out of range"},
		"negative revision":   {change(`"revision": 7`, `"revision": -1`), store.ErrCorrupt, "revision"},
	}
}

func TestDecodeRefuses(t *testing.T) {
	for name, c := range refusals() {
		t.Run(name, func(t *testing.T) {
			_, err := decode([]byte(c.text))
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("want %q with %q, got %v", c.want, c.says, err)
			}
		})
	}
}

// Nothing panics, every refusal has its reason, and what is accepted comes back
// the same from being written and read again.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(oneRecord))
	f.Add([]byte(noRecord))
	for _, c := range refusals() {
		f.Add([]byte(c.text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := decode(data)
		if err != nil {
			if !errors.Is(err, store.ErrCorrupt) && !errors.Is(err, store.ErrVersion) {
				t.Fatalf("an error of neither kind: %v", err)
			}
			return
		}
		var first, second bytes.Buffer
		if err := encode(&first, s); err != nil {
			t.Fatalf("encode what was decoded: %v", err)
		}
		again, err := decode(first.Bytes())
		if err != nil {
			t.Fatalf("decode what was encoded: %v\n%s", err, first.Bytes())
		}
		if err := encode(&second, again); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(first.Bytes(), second.Bytes()) {
			t.Fatalf("encoded twice, it differs:\n%s\n%s", first.Bytes(), second.Bytes())
		}
		if a, b := s.table.List(), again.table.List(); !reflect.DeepEqual(a, b) {
			t.Fatalf("decoded twice, it differs:\n%+v\n%+v", a, b)
		}
	})
}

// A revision that somebody saw is not given out again, though the file that
// had it was put back to an older one.
func TestRevisionsSurviveARestoredFile(t *testing.T) {
	s, _, c := openFaulty(t)
	old, err := os.ReadFile(s.statePath)
	if err != nil {
		t.Fatal(err)
	}
	seen, err := s.Put(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.statePath+".old", old, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(s.statePath+".old", s.statePath); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Put(t.Context(), seen); !errors.Is(err, store.ErrConflict) {
		t.Errorf("Put of a revision that is gone: want a conflict, got %v", err)
	}
	next, err := s.Put(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if next.Revision <= seen.Revision {
		t.Errorf("revision %d after %d", next.Revision, seen.Revision)
	}
}
