package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// pace is how a server is asked that does not answer yet.
type pace struct {
	// every is how often.
	every time.Duration
	// patience is how long to wait for one answer before asking again
	// besides. What is sent to a container whose network is not up yet is lost,
	// and sent again by the kernel after a second; that is no fault of whoever
	// starts it.
	patience time.Duration
}

var (
	// one is for one server, and crowded for each of many: to ask those as often would
	// be most of the work.
	one     = pace{every: time.Millisecond, patience: 5 * time.Millisecond}
	crowded = pace{every: 20 * time.Millisecond, patience: 200 * time.Millisecond}
)

// answered waits until a server answers a GET with 200.
func answered(ctx context.Context, addr string, p pace) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answers := make(chan error)
	var last error
	for {
		began := time.Now()
		wg.Go(func() {
			select {
			case answers <- ask(ctx, client, addr):
			case <-ctx.Done():
			}
		})
		wait := time.NewTimer(p.patience)
		for asking := true; asking; {
			select {
			case <-ctx.Done():
				return errors.Join(fmt.Errorf("no answer from %s: %w", addr, context.Cause(ctx)), last)
			case last = <-answers:
				if last == nil {
					return nil
				}
				wait.Reset(max(0, p.every-time.Since(began)))
			case <-wait.C:
				asking = false
			}
		}
	}
}

// ask asks once, for a second at most.
func ask(ctx context.Context, client *http.Client, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/", nil)
	if err != nil {
		return err
	}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return errors.New(res.Status)
	}
	return nil
}
