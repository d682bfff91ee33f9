package main

import (
	"strings"
	"sync"
	"time"
)

// steps takes what "budgie chirp -d" prints, and notes when. It may be written to
// concurrently.
type steps struct {
	mu   sync.Mutex
	text string
	// joining is when the command said whom it joins, and pulled when the image
	// was there; zero where it did not.
	joining, pulled time.Time
}

// Write implements io.Writer.
func (s *steps) Write(p []byte) (int, error) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text += string(p)
	if s.joining.IsZero() && strings.Contains(s.text, "joining ") {
		s.joining = now
	}
	if s.pulled.IsZero() && strings.Contains(s.text, ": pulled ") {
		s.pulled = now
	}
	return len(p), nil
}

// fetch returns how long the image took, false where that cannot be told.
func (s *steps) fetch() (time.Duration, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pulled.Sub(s.joining), !s.joining.IsZero() && !s.pulled.IsZero()
}

// String returns what was printed.
func (s *steps) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text
}
