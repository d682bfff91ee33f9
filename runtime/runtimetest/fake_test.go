package runtimetest

import (
	"testing"

	"github.com/budgiehq/budgie/bunfile"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestFakeConformance(t *testing.T) {
	Run(t, func(t *testing.T) Harness {
		f := NewFake()
		t.Cleanup(f.Shutdown)
		return Harness{
			Runtime: f,
			Reopen:  func(*testing.T) Runtime { return f.Reopen() },
			Spec:    func(args ...string) bunfile.Spec { return Spec("suite", FakeCommand(args...)...) },
			Command: FakeCommand,
			Image:   bunfile.Image{DockerImage: "example/web"},
		}
	})
}
