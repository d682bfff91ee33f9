package main

import (
	"context"
	"errors"
	"testing"
)

// A process that was replaced is about to end: its successor is not given up for that.
func TestReplacedWhileItEnds(t *testing.T) {
	done, cancel := context.WithCancel(t.Context())
	cancel()
	closed, never := make(chan struct{}), make(chan struct{})
	close(closed)
	for range 100 { // select chooses by lot
		if err := untilReplaced(done, closed, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := untilReplaced(done, never, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("one that ends before: %v", err)
	}
	ended := make(chan error, 1)
	ended <- nil
	if err := untilReplaced(t.Context(), never, ended); err == nil {
		t.Error("a successor that ended has taken over")
	}
}
