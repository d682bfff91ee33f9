package runtimetest

import (
	"context"
	"errors"
	"strings"

	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/runtime"
)

// puller returns the runtime as one that pulls images, false where it runs none.
func (s *suite) puller() (runtime.Puller, bool) {
	s.Helper()
	p, ok := s.Runtime.(runtime.Puller)
	switch {
	case s.Image.DockerImage == "" && ok:
		s.Fatal("the runtime is a runtime.Puller, and the harness names no Image to pull")
	case s.Image.DockerImage != "" && !ok:
		s.Fatal("the harness names an Image, and the runtime is no runtime.Puller")
	}
	return p, ok
}

// testPull: a pull ends with the word that the image is there, its digest is the
// same every time, and Create accepts it, also under the policy "always".
func (s *suite) testPull() {
	p, ok := s.puller()
	if !ok {
		return
	}
	digest := ""
	for range 2 {
		var steps []runtime.PullStep
		got, err := p.Pull(s.ctx, s.Image, func(e runtime.PullProgress) {
			steps = append(steps, e.Step)
			if !strings.Contains(e.Image, s.Image.DockerImage) {
				s.Errorf("an event is about image %q", e.Image)
			}
		})
		if err != nil || got == "" || digest != "" && got != digest {
			s.Fatalf("Pull returned %q, %v; before it was %q", got, err, digest)
		}
		if digest = got; len(steps) == 0 || steps[len(steps)-1] != runtime.PullDone && steps[len(steps)-1] != runtime.PullPresent {
			s.Errorf("the last event is not the end: %v", steps)
		}
	}
	if got, err := p.Pull(s.ctx, s.Image, nil); err != nil || got != digest {
		s.Errorf("without a function Pull returned %q, %v", got, err)
	}
	cfg := runtime.Config{ID: NewID(), Spec: s.Spec("sleep"), ImageDigest: digest}
	cfg.Spec.Image.DockerImage, cfg.Spec.Image.Pull = s.Image.DockerImage, bunfile.PullAlways
	if err := s.Runtime.Create(s.ctx, cfg); err != nil {
		s.Errorf("Create of what was pulled: %v", err)
	}
}

// testPullFails: what cannot be had is an error, and so is the end of the context.
func (s *suite) testPullFails() {
	p, ok := s.puller()
	if !ok {
		return
	}
	if _, err := p.Pull(s.ctx, bunfile.Image{DockerImage: "localhost/nobody/made:this", Pull: bunfile.PullNever}, nil); err == nil || !strings.Contains(err.Error(), "nobody/made:this") {
		s.Errorf("an image that is not there: %v", err)
	}
	ctx, cancel := context.WithCancel(s.ctx)
	cancel()
	if _, err := p.Pull(ctx, s.Image, nil); !errors.Is(err, context.Canceled) {
		s.Errorf("with a cancelled context: %v", err)
	}
}
