package benchreport

import (
	"strings"
	"testing"
)

func TestAims(t *testing.T) {
	var aims Aims
	aims.Add("fast", "0.50", true)
	aims.Add("small", "1.50", false)
	text := aims.Markdown()
	for _, want := range []string{"| fast | 0.50 | met |\n", "| small | 1.50 | **missed** |\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in:\n%s", want, text)
		}
	}
}
