package bunfile

import "cmp"

// WithDefaults returns a copy of s with the documented default in each absent
// field. Network stays empty where it is absent: it means [NetworkBridge] to a
// runtime that has networks, and nothing to another. Hostname and User stay
// empty, too: Name and the image say what they are. A valid Spec stays valid.
func (s Spec) WithDefaults() Spec {
	s = s.Clone()
	s.Version = cmp.Or(s.Version, Version)
	if s.Image.DockerImage != "" {
		s.Image.Pull = cmp.Or(s.Image.Pull, PullMissing)
	}
	s.Balance.Algorithm = cmp.Or(s.Balance.Algorithm, RoundRobin)
	s.Balance.Mode = cmp.Or(s.Balance.Mode, ModeAuto)
	s.Balance.Protocol = cmp.Or(s.Balance.Protocol, ProtocolAuto)
	s.Balance.Prefer = cmp.Or(s.Balance.Prefer, PreferAny)
	for i := range s.Ports {
		s.Ports[i].Protocol = cmp.Or(s.Ports[i].Protocol, TCP)
	}
	for i := range s.Volumes {
		s.Volumes[i].Mode = cmp.Or(s.Volumes[i].Mode, ReadWrite)
	}
	if h := s.Healthcheck; h != nil {
		h.Interval = cmp.Or(h.Interval, Duration(DefaultHealthInterval))
		h.Timeout = cmp.Or(h.Timeout, Duration(DefaultHealthTimeout))
		h.Retries = cmp.Or(h.Retries, DefaultHealthRetries)
	}
	s.RestartPolicy.Name = cmp.Or(s.RestartPolicy.Name, RestartNo)
	if s.StopTimeout == nil {
		timeout := Duration(DefaultStopTimeout)
		s.StopTimeout = &timeout
	}
	s.Replicas.Min = cmp.Or(s.Replicas.Min, DefaultMinReplicas)
	return s
}
