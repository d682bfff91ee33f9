package bunfile

import (
	"maps"
	"slices"
)

// Clone returns a copy of s that shares no memory with it.
func (s Spec) Clone() Spec {
	s.Image.Command = slices.Clone(s.Image.Command)
	s.Labels = maps.Clone(s.Labels)
	s.Ports = slices.Clone(s.Ports)
	s.Volumes = slices.Clone(s.Volumes)
	s.Environment = slices.Clone(s.Environment)
	s.DependsOn = slices.Clone(s.DependsOn)
	if s.Healthcheck != nil {
		h := *s.Healthcheck
		h.Command = slices.Clone(h.Command)
		s.Healthcheck = &h
	}
	if s.StopTimeout != nil {
		t := *s.StopTimeout
		s.StopTimeout = &t
	}
	return s
}
