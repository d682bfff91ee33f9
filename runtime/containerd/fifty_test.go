//go:build linux

package containerd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/runtime"
	"github.com/budgiehq/budgie/runtime/runtimetest"
)

// Fifty containers that are started at once all come up, each with an address
// of its own at which it and no other answers, and all go without a trace.
func TestFiftyAtOnce(t *testing.T) {
	const many = 50
	d := daemon(t)
	dir := t.TempDir()
	r := open(t, d, dir)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	inParallel := func(f func(i int) error) {
		t.Helper()
		errs := make([]error, many)
		var wg sync.WaitGroup
		for i := range many {
			wg.Go(func() { errs[i] = f(i) })
		}
		wg.Wait()
		if err := errors.Join(errs...); err != nil {
			t.Error(err)
		}
	}
	var ids [many]string
	var started [many]runtime.Status
	inParallel(func(i int) (err error) {
		ids[i] = runtimetest.NewID()
		s := shell("echo $BUDGIE_CONTAINER_ID >/tmp/index.html && exec httpd -f -p $PORT -h /tmp")
		s.Network = bunfile.NetworkBridge
		s.Ports = []bunfile.Port{{ContainerPort: 8080}}
		if err := r.Create(ctx, runtime.Config{ID: ids[i], Spec: s}); err != nil {
			return err
		}
		started[i], err = r.Start(ctx, ids[i])
		return err
	})
	if !t.Failed() {
		inParallel(func(i int) error { return answers(ctx, started[i].Addresses[0].HostPort, ids[i]) })
	}
	inParallel(func(i int) error { return errors.Join(r.Stop(ctx, ids[i], 0), r.Remove(ctx, ids[i])) })
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	empty(t, d)
}

// answers waits until a web server answers with a line.
func answers(ctx context.Context, addr, line string) error {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr, nil)
		if err != nil {
			return err
		}
		res, err := client.Do(req)
		if err == nil {
			body, err := io.ReadAll(res.Body)
			res.Body.Close()
			if err == nil && string(body) != line+"\n" {
				err = fmt.Errorf("%s answers %q instead of %q", addr, body, line)
			}
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		case <-time.After(10 * time.Millisecond): // nothing tells when it listens
		}
	}
}
