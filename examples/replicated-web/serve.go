package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// startedForm is how a replica says when it started, which tells two runs of it
// apart: the first process of a container always has pid 1.
const startedForm = "2006-01-02T15:04:05.000Z"

// serve is the service itself: a small web server that knows nothing of Budgie
// but the environment that containers get. Among processes it is for this
// machine alone; in a container it listens on all of the container's addresses.
func serve(host string) {
	id, started := os.Getenv("BUDGIE_CONTAINER_ID"), time.Now().UTC().Format(startedForm)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "hello from %.12s (pid %d, started %s)\n", id, os.Getpid(), started)
		if page, err := os.ReadFile(pageFile); err == nil {
			_, _ = w.Write(page) // an error is the client's
		}
	})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "ok")
	})
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	server := &http.Server{
		Addr:              net.JoinHostPort(host, os.Getenv("PORT")),
		Handler:           mux,
		ReadHeaderTimeout: 5 * time.Second,
	}
	context.AfterFunc(ctx, func() {
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		_ = server.Shutdown(ctx)
	})
	fmt.Println("serving on", server.Addr)
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
