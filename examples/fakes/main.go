// Command fakes is an app that runs a container only to read its front page:
//
//	go run ./examples/fakes examples/embed/web.bun
//
// Its test, main_test.go, shows how to test such an app with the fakes: no
// process is started and nothing is sent but on loopback.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"syscall"

	"github.com/budgiehq/budgie"
	"github.com/budgiehq/budgie/bunfile"
)

func main() {
	flag.Parse()
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: fakes FILE.bun")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, flag.Arg(0)); err != nil {
		fmt.Fprintln(os.Stderr, "fakes:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, file string) error {
	specs, err := bunfile.Load(file)
	if err != nil {
		return err
	}
	client, err := budgie.New(budgie.WithLoopback())
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	page, err := frontPage(ctx, client, specs[0])
	if err != nil {
		return err
	}
	fmt.Println(page)
	return nil
}

// frontPage runs a container for as long as it takes to read its front page.
func frontPage(ctx context.Context, client *budgie.Client, spec bunfile.Spec) (string, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	web, err := client.Run(ctx, spec, budgie.AutoRemove())
	if err != nil {
		return "", err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, web.URL(), nil)
	if err != nil {
		return "", err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = res.Body.Close() }()
	page, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("front page of %s: %s", spec.Name, res.Status)
	}
	return string(page), err
}
