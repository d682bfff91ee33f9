//go:build linux

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/budgiehq/budgie/internal/containerdtest"
)

func TestMain(m *testing.M) {
	containerdtest.Isolate()
	os.Exit(m.Run())
}

// One round of everything but Docker, which the tests do without: each contender
// starts its containers, is looked at, and has its lines in the result; and
// nothing is left.
func TestMeasure(t *testing.T) {
	containerdtest.Need(t)
	text, err := measure(t.Context(), settings{rounds: 1, many: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Log(text)
	for _, want := range []string{nameCold, nameWarm, nameHost, nameCtr, nameCtrCNI, "containerd-shim-runc-v2", "2 commands", "one command", "make the task", firstStep, lastStep} {
		if !strings.Contains(text, want) {
			t.Errorf("the result lacks %q", want)
		}
	}
	if left, err := filepath.Glob(filepath.Join(os.TempDir(), "start-*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	running, err := processes(func(p process) bool {
		return strings.HasPrefix(p.name, "containerd") || p.name == "budgie"
	})
	if err != nil || len(running) > 0 {
		t.Errorf("left behind: %+v, %v", running, err)
	}
}
