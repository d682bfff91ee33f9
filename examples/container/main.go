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

	"github.com/budgiehq/budgie"
	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/runtime/containerd"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	rt, err := containerd.New()
	check(err)
	defer rt.Close()
	client, err := budgie.New(budgie.WithRuntime(rt))
	check(err)
	defer client.Close()
	image := bunfile.Image{DockerImage: os.Args[1], Command: os.Args[2:]}
	web, err := client.Run(ctx, bunfile.Spec{Version: bunfile.Version, Name: "web", Image: image, Ports: []bunfile.Port{{ContainerPort: 80}}})
	check(err)
	fmt.Println(web.URL())
	<-ctx.Done()
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
