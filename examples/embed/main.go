// Command embed goes from a .bun file to a URL in 15 lines. Ctrl-C stops the
// container and ends the program. The file beside it needs python3; another one
// is run with -file.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"

	"github.com/budgiehq/budgie"
)

func main() {
	file := flag.String("file", "examples/embed/web.bun", "what to run")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	client, err := budgie.New()
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	web, err := client.RunFile(ctx, *file)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(web[0].URL())
	<-ctx.Done()
}
