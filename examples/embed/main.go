// Command embed goes from a .bun file to a URL in a dozen lines. Ctrl-C stops
// the container and ends the program.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"

	"github.com/budgiehq/budgie"
)

func main() {
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	client, err := budgie.New()
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	web, err := client.RunFile(ctx, flag.Arg(0))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(web[0].URL())
	<-ctx.Done()
}
