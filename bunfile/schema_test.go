package bunfile

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// beyondSchema are the files of testdata/bad whose documents the schema takes,
// each with the reason why it cannot refuse them.
func beyondSchema() map[string]string {
	const (
		between   = "compares values with each other"
		rawText   = "JSON has the number, not how it was written"
		fileName  = "depends on the name of the file"
		documents = "compares documents"
		reference = "references and escapes have a grammar beyond patterns"
		syntax    = "is not visible in the value that a YAML reader makes of it"
	)
	return map[string]string{
		"Bad_File-Name":          fileName,
		"name-missing-twice":     documents,
		"name-twice":             documents,
		"depends-cycle":          documents,
		"version-padded":         rawText,
		"version-number":         rawText,
		"image-upper":            reference,
		"image-scheme":           reference,
		"image-digest":           reference,
		"ports-twice":            between,
		"volumes-twice":          between,
		"environment-twice":      between,
		"healthcheck-no-port":    between,
		"healthcheck-tcp":        between,
		"healthcheck-short":      "compares times in different units",
		"stop-timeout-huge":      "JSON numbers have no bounds that a time has",
		"replicas-order":         between,
		"balance-hash-algorithm": between,
		"balance-hash-mode":      between,
		"balance-hash-tcp":       between,
		"balance-protocol-mode":  between,
		"balance-protocol-tcp":   between,
		"resources-swap-alone":   between,
		"resources-swap-less":    between,
		"resources-size-huge":    "a pattern does not count",
		"duplicate-keys":         syntax,
	}
}

func compileSchema(t testing.TB) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("schema.json", doc); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

var floatText = regexp.MustCompile(`^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$`)

// jsonValue is what an editor makes of a tree: the core schema of YAML 1.2.2
// section 10.3.2.
func jsonValue(t testing.TB, n *node) any {
	switch n.kind {
	case nullKind:
		return nil
	case listKind:
		out := []any{}
		for _, item := range n.items {
			out = append(out, jsonValue(t, item))
		}
		return out
	case mappingKind:
		out := map[string]any{}
		for _, p := range n.pairs {
			out[p.key.text] = jsonValue(t, p.value)
		}
		return out
	}
	text := n.text
	switch {
	case !n.plain:
		return text
	case text == "true" || text == "false":
		return text == "true"
	case strings.HasPrefix(text, "0x") || strings.HasPrefix(text, "0o"):
		if v, err := strconv.ParseInt(text, 0, 64); err == nil {
			return json.Number(strconv.FormatInt(v, 10))
		}
	case floatText.MatchString(text):
		text = strings.TrimPrefix(text, "+")
		if whole, err := strconv.ParseInt(text, 10, 64); err == nil {
			return json.Number(strconv.FormatInt(whole, 10))
		}
		if f, err := strconv.ParseFloat(text, 64); err == nil {
			return json.Number(strconv.FormatFloat(f, 'g', -1, 64))
		}
	}
	return text
}

// schemaVerdict validates every document of a text. ok is false where the text
// is no YAML, so that the schema never gets to see it.
func schemaVerdict(t testing.TB, schema *jsonschema.Schema, text []byte) (refusal error, ok bool) {
	src, srcErr := newSource("x.bun", text)
	if srcErr != nil {
		return nil, false
	}
	trees, problems := parseTree(src, true)
	if len(trees) == 0 {
		return nil, false
	}
	for _, p := range problems {
		if !strings.Contains(p.message, "given twice") {
			return nil, false
		}
	}
	for _, tree := range trees {
		if err := schema.Validate(jsonValue(t, tree)); err != nil {
			return err, true
		}
	}
	return nil, true
}

func TestSchemaTakesGoodFiles(t *testing.T) {
	schema := compileSchema(t)
	files, err := filepath.Glob("testdata/good/*.bun")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err, ok := schemaVerdict(t, schema, text); err != nil || !ok {
			t.Errorf("%s: read %v: %v", file, ok, err)
		}
	}
}

func TestSchemaRefusesBadFiles(t *testing.T) {
	schema := compileSchema(t)
	reasons := beyondSchema()
	files, err := filepath.Glob("testdata/bad/*.bun")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	refused := 0
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".bun")
		reason, beyond := reasons[name]
		delete(reasons, name)
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		err, ok := schemaVerdict(t, schema, text)
		switch {
		case !ok && beyond:
			t.Errorf("%s is no YAML: the reason %q is not needed", name, reason)
		case ok && err == nil && !beyond:
			t.Errorf("the schema takes %s, and there is no reason for it", name)
		case ok && err != nil && beyond:
			t.Errorf("the schema refuses %s: the reason %q is wrong", name, reason)
		}
		if ok && err != nil {
			refused++
		}
	}
	if len(reasons) > 0 {
		t.Errorf("reasons for files that are not there: %v", reasons)
	}
	if refused < 50 {
		t.Errorf("the schema got to refuse only %d files", refused)
	}
}

// TestKeysAgree compares the keys that Parse reads, those of the JSON form and
// those of the schema.
func TestKeysAgree(t *testing.T) {
	var schema struct {
		Properties map[string]json.RawMessage `json:"properties"`
		Defs       map[string]struct {
			Properties map[string]json.RawMessage `json:"properties"`
		} `json:"$defs"`
	}
	if err := json.Unmarshal(Schema(), &schema); err != nil {
		t.Fatal(err)
	}
	inline := func(key string) map[string]json.RawMessage {
		var s struct {
			Properties map[string]json.RawMessage `json:"properties"`
		}
		if err := json.Unmarshal(schema.Properties[key], &s); err != nil {
			t.Fatal(err)
		}
		return s.Properties
	}
	var hash struct {
		Properties map[string]json.RawMessage `json:"properties"`
	}
	if err := json.Unmarshal(inline("balance")["hash"], &hash); err != nil {
		t.Fatal(err)
	}
	types := map[string]struct {
		goType any
		schema map[string]json.RawMessage
	}{
		"":               {Spec{}, schema.Properties},
		"image":          {Image{}, schema.Defs["image"].Properties},
		"balance":        {Balance{}, inline("balance")},
		"balance.hash":   {Hash{}, hash.Properties},
		"ports":          {Port{}, schema.Defs["port"].Properties},
		"volumes":        {Volume{}, schema.Defs["volume"].Properties},
		"healthcheck":    {Healthcheck{}, schema.Defs["healthcheck"].Properties},
		"restart_policy": {RestartPolicy{}, inline("restart_policy")},
		"replicas":       {Replicas{}, inline("replicas")},
		"resources":      {Resources{}, schema.Defs["resources"].Properties},
	}
	for _, section := range sections() {
		want := types[section.path]
		var tags []string
		for field := range reflect.TypeOf(want.goType).Fields() {
			tag, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			tags = append(tags, tag)
		}
		if !slices.Equal(section.keys, tags) {
			t.Errorf("%q: Parse reads %v, the JSON form has %v", section.path, section.keys, tags)
		}
		for _, key := range section.keys {
			if want.schema[key] == nil {
				t.Errorf("%q: the schema lacks %s", section.path, key)
			}
		}
		if len(want.schema) != len(section.keys) {
			t.Errorf("%q: the schema has %d keys, Parse reads %d", section.path, len(want.schema), len(section.keys))
		}
	}
}

func TestSchemaIsACopy(t *testing.T) {
	Schema()[0] = 'x'
	if Schema()[0] != '{' {
		t.Error("a caller changed the schema")
	}
}
