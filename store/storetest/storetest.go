// Package storetest is the conformance suite of stores. The test of a store is
// one call of [Run].
package storetest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/lifecycle"
)

// Store is what the suite tests. It has the methods of the root package's
// Store, whose comments are the contract.
type Store interface {
	Get(ctx context.Context, id string) (lifecycle.Container, error)
	List(ctx context.Context) ([]lifecycle.Container, error)
	Put(ctx context.Context, c lifecycle.Container) (lifecycle.Container, error)
	Delete(ctx context.Context, id string, revision uint64) error
	Watch(ctx context.Context) (<-chan struct{}, error)
	Acquire(ctx context.Context, owner string) (release func() error, err error)
	Alive(ctx context.Context, owner string) (bool, error)
	Close() error
}

// Option says more about the stores under test.
type Option func(*suite)

// Shared says that several values can serve the same data, as several
// processes do. again opens another value on the data of s. The suite then
// also tests what one sees of the other.
func Shared(again func(t *testing.T, s Store) Store) Option {
	return func(s *suite) { s.again = again }
}

// Run tests a store. open returns a new and empty one each time; the suite
// closes it.
func Run(t *testing.T, open func(t *testing.T) Store, opts ...Option) {
	t.Helper()
	s := &suite{open: open}
	for _, opt := range opts {
		opt(s)
	}
	groups := map[string]map[string]func(*testing.T){
		"Records": s.records(),
		"Updates": s.updates(),
		"Watch":   s.watching(),
		"Owners":  s.owners(),
		"Closed":  s.closing(),
		"Model":   {"Random": s.model},
	}
	if s.again != nil {
		groups["Shared"] = s.shared()
	}
	for name, group := range groups {
		t.Run(name, func(t *testing.T) {
			for name, test := range group {
				t.Run(name, test)
			}
		})
	}
}

// suite holds how to get at stores.
type suite struct {
	open  func(t *testing.T) Store
	again func(t *testing.T, s Store) Store
}

// store returns a new store that is closed with the test.
func (s *suite) store(t *testing.T) Store {
	t.Helper()
	st := s.open(t)
	t.Cleanup(func() { closeStore(t, st) })
	return st
}

// pair returns two values on the same new data.
func (s *suite) pair(t *testing.T) (Store, Store) {
	t.Helper()
	first := s.store(t)
	second := s.again(t, first)
	t.Cleanup(func() { closeStore(t, second) })
	return first, second
}

func closeStore(t *testing.T, s Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
}

// patience bounds the wait for what must happen. It says nothing of how fast
// a store has to be.
const patience = 20 * time.Second

// deadline returns a context that ends when patience does.
func deadline(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// container returns a record with something in every kind of field. Records of
// different n differ, and n is also their order.
func container(n int) lifecycle.Container {
	id := fmt.Sprintf("%064x", n)
	timeout, grace := bunfile.Duration(90*time.Second), bunfile.Duration(3*time.Second)
	at := time.Date(2026, 1, 2, 3, 4, 5, 678901234, time.UTC).Add(time.Duration(n) * time.Minute)
	return lifecycle.Container{
		ID: id, Name: fmt.Sprintf("web-%d", n), ServiceID: id, Runtime: "process", Owner: "owner-1",
		Spec: bunfile.Spec{
			Version: bunfile.Version, Name: fmt.Sprintf("web-%d", n),
			Image:       bunfile.Image{Command: []string{"serve", "<&>", "café ☃"}},
			Labels:      map[string]string{"tier": "front", "a\"b": "\x00\n"},
			Ports:       []bunfile.Port{{ContainerPort: 80, Protocol: bunfile.TCP}},
			Volumes:     []bunfile.Volume{{Source: "/srv", Target: "/data", Mode: bunfile.ReadOnly}},
			Environment: []string{"A=1", "B="},
			Healthcheck: &bunfile.Healthcheck{Command: []string{"true"}, Interval: timeout},
			StopTimeout: &timeout, DependsOn: []string{"db"},
			Resources: bunfile.Resources{MemoryLimit: 1 << 30, MemorySwap: -1},
		},
		Detached: true, Desired: lifecycle.WantRunning, StopGrace: &grace,
		State: lifecycle.Stopped, Health: lifecycle.Unhealthy, Ready: true, PID: 42,
		Endpoints: []lifecycle.Endpoint{{ContainerPort: 80, Protocol: bunfile.TCP, Host: "127.0.0.1", Port: 8080, HTTP: true}},
		CreatedAt: at, StartedAt: at.Add(time.Second), RestartAt: at.Add(time.Hour),
		Exit:     &lifecycle.Exit{Code: 137, At: at.Add(2 * time.Second), OOMKilled: true},
		Restarts: 3, Failures: 2, Reason: "killed",
	}
}

// put stores a record that must be accepted.
func put(t testing.TB, s Store, c lifecycle.Container) lifecycle.Container {
	t.Helper()
	stored, err := s.Put(t.Context(), c)
	if err != nil {
		t.Fatalf("Put(%s): %v", c.Name, err)
	}
	return stored
}

// get reads a record that must be there.
func get(t testing.TB, s Store, id string) lifecycle.Container {
	t.Helper()
	c, err := s.Get(t.Context(), id)
	if err != nil {
		t.Fatalf("Get(%.12s): %v", id, err)
	}
	return c
}

func wantError(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: want %q, got %v", what, want, err)
	}
}
