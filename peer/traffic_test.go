package peer

import (
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"testing"
	"time"
	"unicode"
)

// Whatever comes as traffic: what is taken keeps the rules, and is the same after
// another trip.
func FuzzTraffic(f *testing.F) {
	data, err := json.Marshal(trafficList{[]Traffic{{ID: someID, Requests: 1, Rate: .5, P99: time.Second, Active: 3}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{}`))
	f.Add([]byte(`{"traffic":[{"id":"\u001b[31m"}]}`))
	f.Add([]byte(`{"traffic":[{"rate":1e400}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := decodeTraffic(data)
		if err != nil {
			if !errors.Is(err, ErrInvalid) || got != nil {
				t.Errorf("%v, %v", got, err)
			}
			for _, r := range err.Error() {
				if unicode.IsControl(r) {
					t.Errorf("control characters in %q", err)
				}
			}
			return
		}
		for _, one := range got {
			if err := one.check(); err != nil {
				t.Errorf("took %+v: %v", one, err)
			}
		}
		again, err := json.Marshal(trafficList{got})
		if err != nil {
			t.Fatal(err)
		}
		if back, err := decodeTraffic(again); err != nil || len(got) > 0 && !reflect.DeepEqual(back, got) {
			t.Errorf("%+v came back as %+v, %v", got, back, err)
		}
	})
}

func TestTrafficIsChecked(t *testing.T) {
	good := Traffic{ID: someID, Rate: 1, P50: 1, Active: 1}
	if err := good.check(); err != nil {
		t.Error(err)
	}
	for name, spoil := range map[string]func(*Traffic){
		"no id":                func(t *Traffic) { t.ID = "x" },
		"a negative rate":      func(t *Traffic) { t.Rate = -1 },
		"no number":            func(t *Traffic) { t.FailureRate = math.NaN() },
		"more than there is":   func(t *Traffic) { t.Rate = math.Inf(1) },
		"a negative time":      func(t *Traffic) { t.P99 = -1 },
		"negative requests":    func(t *Traffic) { t.Active = -1 },
		"negative connections": func(t *Traffic) { t.Connections = -1 },
	} {
		bad := good
		spoil(&bad)
		if bad.check() == nil {
			t.Errorf("%s is taken", name)
		}
	}
}
