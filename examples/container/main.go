// Command container goes from an image to a URL in 15 lines, with containerd
// and without Docker. It needs root. Ctrl-C stops the container and ends the
// program; killed, it leaves the container to the next start, which ends it.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"

	"github.com/budgiehq/budgie"
	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/runtime/containerd"
)

func main() {
	what := image()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	rt, err := containerd.New()
	check(err)
	defer rt.Close()
	client, err := budgie.New(budgie.WithRuntime(rt))
	check(err)
	defer client.Close()
	web, err := client.Run(ctx, bunfile.Spec{Version: bunfile.Version, Name: "web", Image: what, Ports: []bunfile.Port{{ContainerPort: 80}}})
	check(err)
	fmt.Println(web.URL())
	<-ctx.Done()
}

// image returns what the command line names.
func image() bunfile.Image {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: container IMAGE [ARGUMENT…]")
		os.Exit(2)
	}
	return bunfile.Image{DockerImage: os.Args[1], Command: os.Args[2:]}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
