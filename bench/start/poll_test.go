package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
)

// A server is waited for that hangs, and fails, before it serves.
func TestAnswered(t *testing.T) {
	var asked atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		switch asked.Add(1) {
		case 1:
			<-req.Context().Done()
		case 2:
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer server.Close()
	if err := answered(t.Context(), server.Listener.Addr().String(), one); err != nil {
		t.Fatal(err)
	}
	if n := asked.Load(); n < 3 {
		t.Errorf("it was content with answer %d", n)
	}
}

func TestAnsweredGivesUp(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := answered(ctx, addr, one); !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v", err)
	}
}
