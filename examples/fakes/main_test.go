package main

import (
	"errors"
	"io"
	"net/http"
	"testing"

	"github.com/budgiehq/budgie"
	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/discovery/discoverytest"
	"github.com/budgiehq/budgie/runtime/runtimetest"
	"github.com/budgiehq/budgie/store/memory"
)

// newClient returns a client on fakes, whose containers answer as page does.
func newClient(t *testing.T, fake *runtimetest.Fake) *budgie.Client {
	t.Helper()
	node := discoverytest.NewNetwork().Join()
	client, err := budgie.New(
		budgie.WithRuntime(fake),
		budgie.WithStore(memory.New()),
		budgie.WithDiscoverer(node),
		budgie.WithLoopback(),
	)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(client.Close(), node.Close()); err != nil {
			t.Error(err)
		}
		fake.Shutdown()
	})
	return client
}

// web needs no image: the fake runtime runs nothing.
func web() bunfile.Spec {
	return bunfile.Spec{
		Version:     "1.0",
		Name:        "web",
		Image:       bunfile.Image{DockerImage: "nginx:1.27"},
		Ports:       []bunfile.Port{{ContainerPort: 80}},
		Healthcheck: &bunfile.Healthcheck{Path: "/healthz"},
	}
}

func TestFrontPage(t *testing.T) {
	fake := runtimetest.NewFake(runtimetest.WithHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "welcome to "+r.URL.Path)
	})))
	page, err := frontPage(t.Context(), newClient(t, fake), web())
	if err != nil || page != "welcome to /" {
		t.Fatalf("got %q, %v", page, err)
	}
}

func TestFrontPageOfAContainerThatDoesNotStart(t *testing.T) {
	broken := errors.New("no such image")
	fake := runtimetest.NewFake(runtimetest.WithFault(func(op, _ string) error {
		if op == "create" {
			return broken
		}
		return nil
	}))
	_, err := frontPage(t.Context(), newClient(t, fake), web())
	if !errors.Is(err, budgie.ErrNotReady) || !errors.Is(err, broken) {
		t.Fatalf("got %v", err)
	}
}
