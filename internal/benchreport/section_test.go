package benchreport

import "testing"

func TestReplaceSection(t *testing.T) {
	begin, end := marks("bench/x")
	other, otherEnd := marks("bench/y")
	file := "# Head\n" + begin + "old\n" + end + other + "kept\n" + otherEnd
	got, err := replaceSection([]byte(file), "bench/x", "new\n")
	if want := "# Head\n" + begin + "\nnew\n" + end + other + "kept\n" + otherEnd; err != nil || string(got) != want {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
	again, err := replaceSection(got, "bench/x", "new\n")
	if err != nil || string(again) != string(got) {
		t.Errorf("the second time it is %q, %v", again, err)
	}
	for _, file := range []string{"", begin, end, other + otherEnd} {
		if _, err := replaceSection([]byte(file), "bench/x", "new"); err == nil {
			t.Errorf("%q is accepted", file)
		}
	}
}
