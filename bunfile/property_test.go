package bunfile_test

import (
	"encoding/json"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/budgiehq/budgie/bunfile"
)

func TestMarshalThenParseIsTheIdentity(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		checkRoundTrip(t, specFiles().Draw(t, "file"))
	})
}

func TestDefaultsAreValidAndStay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := specs().Draw(t, "spec")
		before := s.Clone()
		full := s.WithDefaults()
		if err := full.Validate(); err != nil {
			t.Fatalf("a valid Spec with defaults is not valid: %v", err)
		}
		if !reflect.DeepEqual(full, full.WithDefaults()) {
			t.Fatal("defaults of defaults are different")
		}
		if !reflect.DeepEqual(s, before) {
			t.Fatal("WithDefaults changed its receiver")
		}
		checkRoundTrip(t, []bunfile.Spec{full})
	})
}

// The JSON form is YAML, too, and has the keys of the file.
func TestJSONFormIsABunFile(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := specs().Draw(t, "spec")
		text, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		var fromJSON bunfile.Spec
		if err := json.Unmarshal(text, &fromJSON); err != nil {
			t.Fatal(err)
		}
		fromParse, err := bunfile.ParseUntrusted("spec.json", text)
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if !reflect.DeepEqual(fromJSON, fromParse[0]) {
			t.Fatalf("read as JSON and as a .bun file:\n%+v\n%+v", fromJSON, fromParse[0])
		}
	})
}

func TestStartOrderProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := specFiles().Draw(t, "file")
		out, err := bunfile.StartOrder(in)
		if err != nil {
			t.Fatal(err)
		}
		if len(out) != len(in) {
			t.Fatalf("%d of %d are left", len(out), len(in))
		}
		at := map[string]int{}
		for i, s := range out {
			at[s.Name] = i
			for _, dep := range s.DependsOn {
				if before, ok := at[dep]; !ok || before >= i {
					t.Fatalf("%s comes before %s", s.Name, dep)
				}
			}
		}
		again, err := bunfile.StartOrder(out)
		if err != nil || !reflect.DeepEqual(out, again) {
			t.Fatalf("an order that is right was changed (%v)", err)
		}
	})
}

func TestCloneSharesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := specs().Draw(t, "spec")
		s.DependsOn = []string{"a"}
		kept, changed := s.Clone(), s.Clone()
		for _, list := range [][]string{changed.Image.Command, changed.Environment, changed.DependsOn} {
			for i := range list {
				list[i] = "changed"
			}
		}
		for key := range changed.Labels {
			changed.Labels[key] = "changed"
		}
		clear(changed.Ports)
		clear(changed.Volumes)
		if changed.Healthcheck != nil {
			clear(changed.Healthcheck.Command)
			*changed.Healthcheck = bunfile.Healthcheck{}
		}
		if changed.StopTimeout != nil {
			*changed.StopTimeout = -1
		}
		if !reflect.DeepEqual(s, kept) || !slices.Equal(s.DependsOn, []string{"a"}) {
			t.Fatal("a change of the clone shows in the original")
		}
	})
}
