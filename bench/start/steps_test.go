package main

import (
	"strings"
	"testing"
	"time"
)

func TestSteps(t *testing.T) {
	log := `time=2026-11-25T23:38:02.880Z level=DEBUG msg=step op=create id=9b step="delete the snapshot"
time=2026-11-25T23:38:02.881Z level=DEBUG msg="mDNS interface in use" interface=lo
time=2026-11-25T23:38:02.881Z level=DEBUG msg=step op=start id=9b step="make the task"
time=2026-11-25T23:38:02.901Z level=DEBUG msg=step op=start id=9b step="start the task"
time=2026-11-25T23:38:02.902Z level=DEBUG msg=step op=remove id=9b step="delete the task"
`
	marks, err := readSteps(strings.NewReader(log))
	if err != nil {
		t.Fatal(err)
	}
	at := func(ms int) time.Time {
		return time.Date(2026, 11, 25, 23, 38, 2, ms*int(time.Millisecond), time.UTC)
	}
	j := journey{name: "run"}
	j.add(at(850), marks, at(911))
	const want = "| `run` | median |\n| --- | ---: |\n" +
		"| " + firstStep + " | 30 |\n| make the task | 20 |\n| start the task, " + lastStep + " | 10 |\n| 1 shorter steps | 1 |\n"
	if got := j.markdown(); got != want {
		t.Errorf("got\n%s, want\n%s", got, want)
	}
	if _, err := readSteps(strings.NewReader("time=now level=DEBUG msg=step op=create id=9b step=x\n")); err == nil {
		t.Error("a line without a time is accepted")
	}
}
