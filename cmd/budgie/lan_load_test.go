//go:build unix

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"os"
	"strings"
	"sync"
	"time"
)

// sent is a request of the load, and what became of it.
type sent struct {
	ID     int
	Method string
	// Via is the name of where it was sent to.
	Via          string
	Began, Ended time.Time
	// Status and By, who answered, are those of an answer that came whole.
	Status int
	By     string
	// Err says what else the client saw.
	Err string
	// Conns is on how many connections it was sent: the client's own transport
	// repeats what a proxy should have.
	Conns int
}

// answered reports whether it was answered as it should be, at once.
func (s sent) answered() bool { return s.Status == http.StatusOK && s.Err == "" && s.Conns == 1 }

// The load: so often a request is sent each way, whatever becomes of those before.
const loadEvery = 20 * time.Millisecond

// loader sends requests at a constant pace.
type loader struct {
	client http.Client
	out    *json.Encoder

	mu sync.Mutex
	n  int
}

// loadRole sends requests until it is told to end, and writes what became of each
// into the file of its argument. On standard input it is told "via NAME URL", which
// begins, or changes, a way, and confirms that, counting, when nothing is under way on
// the former one; and "end".
func loadRole(ctx context.Context, args []string) error {
	file, err := os.Create(args[0])
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	l := &loader{
		client: http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 256}},
		out:    json.NewEncoder(file),
	}
	var sending sync.WaitGroup
	defer sending.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	lines := bufio.NewScanner(os.Stdin)
	ways := make(map[string]func())
	changes := 0
	for lines.Scan() {
		word := strings.Fields(lines.Text())
		switch {
		case len(word) == 3 && word[0] == "via":
			if end := ways[word[1]]; end != nil {
				end()
			}
			// Those to a machine that lost its power would fail now, at the client alone.
			l.client.CloseIdleConnections()
			way, stop := context.WithCancel(ctx)
			done := make(chan struct{})
			sending.Go(func() { defer close(done); l.send(way, word[1], word[2]) })
			ways[word[1]] = func() { stop(); <-done }
			changes++
			fmt.Printf("change %d is done\n", changes)
		case len(word) == 1 && word[0] == "end":
			return nil
		default:
			return fmt.Errorf("what is %q?", lines.Text())
		}
	}
	return lines.Err()
}

// send sends requests one way until ctx ends, and waits for their ends.
func (l *loader) send(ctx context.Context, via, url string) {
	var wg sync.WaitGroup
	defer wg.Wait()
	ticker := time.NewTicker(loadEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		l.mu.Lock()
		l.n++
		n := l.n
		l.mu.Unlock()
		s := sent{ID: n, Method: http.MethodGet, Via: via}
		if n%3 == 0 {
			s.Method = http.MethodPost
		}
		work := "/work?took=0s"
		if n%5 < 2 {
			work = "/work?took=200ms" // so that some are under way at any moment
		}
		if s.Method == http.MethodPost {
			work += fmt.Sprint("&id=", s.ID)
		}
		wg.Go(func() {
			l.do(&s, url+work)
			l.mu.Lock()
			defer l.mu.Unlock()
			if err := l.out.Encode(s); err != nil {
				panic(err) // the test would wait for ever
			}
		})
	}
}

// do sends one request.
func (l *loader) do(s *sent, url string) {
	s.Began = time.Now()
	defer func() { s.Ended = time.Now() }()
	trace := &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { s.Conns++ }}
	var body io.Reader
	if s.Method == http.MethodPost {
		body = strings.NewReader("do it")
	}
	req, err := http.NewRequestWithContext(httptrace.WithClientTrace(context.Background(), trace), s.Method, url, body)
	if err != nil {
		s.Err = err.Error()
		return
	}
	resp, err := l.client.Do(req)
	if err != nil {
		s.Err = err.Error()
		return
	}
	text, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		s.Err = err.Error()
		return
	}
	s.Status, s.By = resp.StatusCode, string(text)
	if s.Status != http.StatusOK {
		s.By, s.Err = "", strings.TrimSpace(string(text))
	}
}
