package budgie_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"time"

	"github.com/budgiehq/budgie"
	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/discovery"
	"github.com/budgiehq/budgie/discovery/discoverytest"
	"github.com/budgiehq/budgie/runtime"
	"github.com/budgiehq/budgie/runtime/runtimetest"
	"github.com/budgiehq/budgie/store/memory"
)

// newExampleClient returns a client on fakes: the examples start no process.
func newExampleClient(network *discoverytest.Network, answer string) *budgie.Client {
	handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, answer) })
	client, err := budgie.New(
		budgie.WithRuntime(runtimetest.NewFake(runtimetest.WithHandler(handler))),
		budgie.WithStore(memory.New()),
		budgie.WithDiscoverer(network.Join()),
		budgie.WithLoopback(),
	)
	if err != nil {
		log.Fatal(err)
	}
	return client
}

func get(url string) string {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Get(url)
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		log.Fatal(err)
	}
	return string(body)
}

var webSpec = bunfile.Spec{
	Version:     bunfile.Version,
	Name:        "web",
	Image:       bunfile.Image{DockerImage: "nginx:1.27"},
	Ports:       []bunfile.Port{{ContainerPort: 80}},
	Healthcheck: &bunfile.Healthcheck{Path: "/"},
}

// A container is run, used, and stopped.
func ExampleClient_Run() {
	ctx := context.Background()
	client := newExampleClient(discoverytest.NewNetwork(), "hello")
	defer func() { _ = client.Close() }()

	web, err := client.Run(ctx, webSpec)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(web.Name, web.State, web.Health)
	fmt.Println(get(web.URL()))

	if err := client.Stop(ctx, "web"); err != nil {
		log.Fatal(err)
	}
	web, err = client.Get(ctx, "web")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(web.Name, web.State)
	// Output:
	// web running healthy
	// hello
	// web stopped
}

// Two nodes run a replica each; a third finds them by discovery and balances.
func ExampleClient_Balance() {
	ctx := context.Background()
	network := discoverytest.NewNetwork()
	for _, answer := range []string{"from a", "from b"} {
		node := newExampleClient(network, answer)
		defer func() { _ = node.Close() }()
		if _, err := node.Run(ctx, webSpec); err != nil {
			log.Fatal(err)
		}
	}
	client := newExampleClient(network, "")
	defer func() { _ = client.Close() }()
	frontend, err := client.Balance(ctx, "web", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	for range time.Tick(time.Millisecond) {
		if len(frontend.Status()) == 2 {
			break // both were found
		}
	}
	url := "http://" + frontend.Addr().String()
	counts := map[string]int{}
	for range 10 {
		counts[get(url)]++
	}
	fmt.Println(counts)
	// Output: map[from a:5 from b:5]
}

// What a container writes is read back, here with the stream of each line.
func ExampleClient_Logs() {
	ctx := context.Background()
	client := newExampleClient(discoverytest.NewNetwork(), "")
	defer func() { _ = client.Close() }()
	job := bunfile.Spec{
		Version: bunfile.Version, Name: "job",
		Image: bunfile.Image{Command: runtimetest.FakeCommand("print", "to stdout", "to stderr")},
	}
	if _, err := client.Run(ctx, job); err != nil {
		log.Fatal(err)
	}
	for entry, err := range client.Logs(ctx, "job", runtime.LogOptions{}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(entry.Stream, entry.Line)
	}
	// Output:
	// stdout to stdout
	// stderr to stderr
}

// What is announced within a time is collected into a list.
func ExampleClient_Discover() {
	network := discoverytest.NewNetwork()
	client := newExampleClient(network, "")
	defer func() { _ = client.Close() }()
	if _, err := client.Run(context.Background(), webSpec); err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	events, err := client.Discover(ctx)
	if err != nil {
		log.Fatal(err)
	}
	for _, service := range discovery.Collect(ctx, events) {
		fmt.Println(service.Name, service.Image, len(service.Ports))
	}
	// Output: web nginx:1.27 1
}
