package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"sync"
	"sync/atomic"
	"time"
)

// The scenario of -check.
const (
	checkRequests    = 2000
	checkConcurrency = 16
	// recovery is how long the killed replica may take to serve again.
	recovery = 30 * time.Second
)

// answer is what a replica says of itself.
type answer struct {
	replica string
	started time.Time
	page    string
}

var answerForm = regexp.MustCompile(`^hello from ([0-9a-f]{12}) \(pid [0-9]+, started ([^)]*)\)\n((?s).*)$`)

// ask sends one request.
func ask(ctx context.Context, client *http.Client, url string) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return answer{}, err
	}
	res, err := client.Do(req)
	if err != nil {
		return answer{}, err
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, 1<<10))
	_ = res.Body.Close()
	if err != nil {
		return answer{}, err
	}
	m := answerForm.FindSubmatch(body)
	if res.StatusCode != http.StatusOK || m == nil {
		return answer{}, fmt.Errorf("%s: %q", res.Status, body)
	}
	started, err := time.Parse(startedForm, string(m[2]))
	return answer{string(m[1]), started, string(m[3])}, err
}

// check plays the scenario: requests all through, one replica killed half-way, and
// then the page edited. It returns nil only if no request failed, every replica
// served, the killed one came back and serves again, and all show the edited page.
func (c *cluster) check(ctx context.Context, url string) error {
	transport := &http.Transport{MaxIdleConnsPerHost: checkConcurrency}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: 15 * time.Second}

	victim := c.nodes[0]
	before, err := victim.client.Get(ctx, victim.replica.ID)
	if err != nil {
		return err
	}
	var killed time.Time
	served, failures, err := load(ctx, client, url, func() error {
		killed = time.Now()
		fmt.Printf("killing %s (pid %d) after %d requests\n", before.ShortID(), before.PID, checkRequests/2)
		p, err := os.FindProcess(before.PID)
		if err != nil {
			return err
		}
		return p.Kill()
	})
	if err != nil {
		return err
	}
	fmt.Printf("\n%-12s  %s\n", "REPLICA", "REQUESTS")
	for _, n := range c.nodes {
		fmt.Printf("%-12s  %8d\n", n.replica.ShortID(), served[n.replica.ShortID()])
	}
	fmt.Printf("\n%d requests, %d failures\n", checkRequests, len(failures))
	for i, f := range failures {
		if i == 5 {
			fmt.Println("  …")
			break
		}
		fmt.Println(" ", f)
	}
	var problems []error
	if len(failures) > 0 {
		problems = append(problems, fmt.Errorf("%d of %d requests failed", len(failures), checkRequests))
	}
	for _, n := range c.nodes {
		if served[n.replica.ShortID()] == 0 {
			problems = append(problems, fmt.Errorf("replica %s served nothing", n.replica.ShortID()))
		}
	}
	problems = append(problems, c.awaitReturn(ctx, client, url, before.ShortID(), killed), c.checkPage(ctx, client, url))
	return errors.Join(problems...)
}

// load sends all requests and calls halfway once, half-way through. It returns
// how many each replica served, and what failed.
func load(ctx context.Context, client *http.Client, url string, halfway func() error) (served map[string]int, failures []error, err error) {
	served = make(map[string]int)
	var mu sync.Mutex
	var sent atomic.Int64
	var wg sync.WaitGroup
	for range checkConcurrency {
		wg.Go(func() {
			for n := sent.Add(1); n <= checkRequests; n = sent.Add(1) {
				if n == checkRequests/2 {
					killErr := halfway()
					mu.Lock()
					err = errors.Join(err, killErr)
					mu.Unlock()
				}
				a, askErr := ask(ctx, client, url)
				mu.Lock()
				if askErr != nil {
					failures = append(failures, askErr)
				} else {
					served[a.replica]++
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return served, failures, errors.Join(err, ctx.Err())
}

// awaitReturn asks until the replica answers that was killed and has started
// since.
func (c *cluster) awaitReturn(ctx context.Context, client *http.Client, url, replica string, killed time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, recovery)
	defer cancel()
	began := time.Now()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		a, err := ask(ctx, client, url)
		switch {
		case ctx.Err() != nil:
			return fmt.Errorf("replica %s did not serve again within %s", replica, recovery)
		case err != nil:
			return fmt.Errorf("a request failed while the killed replica came back: %w", err)
		case a.replica == replica && a.started.After(killed):
			fmt.Printf("%s serves again (started %s), %s after the load\n", a.replica, a.started.Format(startedForm), time.Since(began).Round(time.Millisecond))
			return nil
		}
		<-tick.C
	}
}
