package budgie_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/budgiehq/budgie"
	"github.com/budgiehq/budgie/balance"
	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/discovery/discoverytest"
	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/runtime"
	"github.com/budgiehq/budgie/runtime/runtimetest"
	"github.com/budgiehq/budgie/store/memory"
	"github.com/budgiehq/budgie/trust"
)

// newNamedNode is newNode, whose containers answer with a name, after the time
// that the query's "wait" says.
func newNamedNode(t *testing.T, name string, network *discoverytest.Network, token trust.Token, opts ...budgie.Option) *fakes {
	t.Helper()
	f := &fakes{store: memory.New(), network: network}
	f.runtime = runtimetest.NewFake(runtimetest.WithHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if d, err := time.ParseDuration(r.URL.Query().Get("wait")); err == nil {
			<-time.After(d)
		}
		fmt.Fprintf(w, "%s for %s", name, r.Header.Get("X-Forwarded-For"))
	})))
	f.node = network.Join()
	f.Client = f.client(t, append([]budgie.Option{budgie.WithToken(token)}, opts...)...)
	return f
}

// answerOf returns what a GET is answered, over a connection of its own.
func answerOf(url string) (string, error) {
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}
	resp, err := c.Get(url)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, body)
	}
	return string(body), err
}

// answers asks until exactly the wanted answers come in a row of some requests.
func answers(t *testing.T, url string, want ...string) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		got := map[string]bool{}
		for range 3 * len(want) {
			body, err := answerOf(url)
			if err != nil {
				body = err.Error()
			}
			got[body] = true
		}
		ok := len(got) == len(want)
		for _, w := range want {
			ok = ok && got[w]
		}
		if ok {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s answers %v; want %q", url, got, want)
		}
	}
}

const (
	fromA = "a for 127.0.0.1"
	fromB = "b for 127.0.0.1"
)

// pair is a service with a replica on each of two nodes.
func pair(t *testing.T, change func(*bunfile.Spec)) (a, b *fakes, first, second lifecycle.Container) {
	t.Helper()
	network, token := discoverytest.NewNetwork(), trust.NewToken()
	a, b = newNamedNode(t, "a", network, token), newNamedNode(t, "b", network, token)
	spec := web("web")
	if change != nil {
		change(&spec)
	}
	first, err := a.Run(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	second, err = b.Join(t.Context(), "web")
	if err != nil {
		t.Fatal(err)
	}
	return a, b, first, second
}

// A published port of any node reaches the replicas of all, and says whom it
// forwards for.
func TestPublishedPortReachesOtherNodes(t *testing.T) {
	_, b, first, second := pair(t, nil)
	answers(t, first.URL(), fromA, fromB)
	answers(t, second.URL(), fromA, fromB)
	if err := b.Remove(t.Context(), "web", budgie.Force()); err != nil {
		t.Fatal(err)
	}
	answers(t, first.URL(), fromA)
}

// A port goes on being served by the others while its own container does not run.
func TestPublishedPortWithoutItsContainer(t *testing.T) {
	network, token := discoverytest.NewNetwork(), trust.NewToken()
	broken := &breakable{Fake: runtimetest.NewFake(runtimetest.WithHandler(status(http.StatusTeapot)))}
	a, b := newNode(t, network, token, budgie.WithRuntime(broken)), newNamedNode(t, "b", network, token)
	spec := always(web("web"))
	spec.Healthcheck, spec.Balance.Mode = nil, bunfile.ModeHTTP
	first, err := a.Run(t.Context(), spec, budgie.OnRuntime("breakable"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Join(t.Context(), "web"); err != nil {
		t.Fatal(err)
	}
	const own = "418 I'm a teapot: "
	answers(t, first.URL(), own, fromB)
	broken.refuse.Store(true)
	if err := broken.Crash(first.ID, 1); err != nil {
		t.Fatal(err)
	}
	answers(t, first.URL(), fromB)
	broken.refuse.Store(false)
	answers(t, first.URL(), own, fromB)
}

// breakable is a runtime that can be made to start nothing.
type breakable struct {
	*runtimetest.Fake
	refuse atomic.Bool
}

// Name implements budgie.Runtime.
func (*breakable) Name() string { return "breakable" }

// Start implements budgie.Runtime.
func (b *breakable) Start(ctx context.Context, id string) (runtime.Status, error) {
	if b.refuse.Load() {
		return runtime.Status{}, errors.New("not now")
	}
	return b.Fake.Start(ctx, id)
}

// A replica that is stopped costs no request, at whichever node it comes in: not
// the ones that it has, nor the ones that come while the others learn of it.
func TestStopElsewhereFailsNothing(t *testing.T) {
	_, b, first, second := pair(t, nil)
	answers(t, first.URL(), fromA, fromB)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var served, failed atomic.Int64
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			client := &http.Client{Transport: &http.Transport{}} // keeps its connection
			defer client.CloseIdleConnections()
			for ctx.Err() == nil {
				// Nobody may repeat a POST that has been sent.
				resp, err := client.Post(first.URL()+"?wait=20ms", "text/plain", nil)
				if err == nil {
					_, err = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
				if err != nil || resp.StatusCode != http.StatusOK {
					failed.Add(1)
					t.Errorf("a request fails: %v, %+v", err, resp)
					return
				}
				served.Add(1)
			}
		})
	}
	slow := make(chan error, 1)
	go func() {
		for { // until the one that is stopped has it
			body, err := answerOf(first.URL() + "?wait=1s")
			if err != nil || body == fromB {
				slow <- err
				return
			}
		}
	}()
	<-time.After(300 * time.Millisecond)
	begin := time.Now()
	if err := b.Stop(t.Context(), second.ID); err != nil {
		t.Fatal(err)
	}
	t.Logf("stopped after %v, with %d requests served", time.Since(begin).Round(time.Millisecond), served.Load())
	answers(t, first.URL(), fromA)
	cancel()
	wg.Wait()
	select {
	case err := <-slow:
		if err != nil {
			t.Errorf("the request under way: %v", err)
		}
	default: // it was never the stopped one's
	}
	if took := time.Since(begin); took > 9*time.Second {
		t.Errorf("the stop took %v: it waited for its grace, not for the requests", took)
	}
}

// In mode tcp, a connection through another node has both its ends.
func TestPublishedPortInModeTCP(t *testing.T) {
	_, _, first, _ := pair(t, func(s *bunfile.Spec) { s.Balance.Mode = bunfile.ModeTCP })
	answers(t, "http://"+first.Endpoints[0].String(), "a for ", "b for ")
}

// Balance reaches the containers themselves, not the other nodes' published
// ports, which would balance a second time.
func TestBalanceReachesContainers(t *testing.T) {
	network, token := discoverytest.NewNetwork(), trust.NewToken()
	a, c := newNamedNode(t, "a", network, token), newNamedNode(t, "c", network, token)
	if _, err := a.Run(t.Context(), web("web")); err != nil {
		t.Fatal(err)
	}
	f, err := c.Balance(t.Context(), "web", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	answers(t, "http://"+f.Addr().String(), fromA)
	status := f.Status()
	if len(status) != 1 || status[0].Backend.Addr == a.listed(t)[0].Endpoints[0].String() {
		t.Errorf("the backends are %+v", status)
	}
}

// The limits of a frontend are the caller's.
func TestBalanceWithLimits(t *testing.T) {
	_, client := replicas(t, 1)
	f, err := client.Balance(t.Context(), "web", "127.0.0.1:0", budgie.WithLimits(balance.Limits{Body: 10}))
	if err != nil {
		t.Fatal(err)
	}
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for size, want := range map[int]int{10: http.StatusOK, 11: http.StatusRequestEntityTooLarge} {
		for { // until the replica is found
			resp, err := c.Post("http://"+f.Addr().String(), "text/plain", strings.NewReader(strings.Repeat("x", size)))
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode == http.StatusServiceUnavailable {
				continue
			}
			if resp.StatusCode != want {
				t.Errorf("a body of %d bytes: %s", size, resp.Status)
			}
			break
		}
	}
}

func (f *fakes) listed(t *testing.T) []lifecycle.Container { return records(t, f) }

// Replicas get their shares by the weights that nodes tell each other, at the published
// ports as at a balancer.
func TestWeights(t *testing.T) {
	network, token := discoverytest.NewNetwork(), trust.NewToken()
	a, b, c := newNamedNode(t, "a", network, token), newNamedNode(t, "b", network, token), newNode(t, network, token)
	spec := web("web")
	spec.Balance.Algorithm, spec.Balance.Weight = bunfile.Weighted, 4
	first, err := a.Run(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{0, -1, bunfile.MaxWeight + 1} {
		if _, err := b.Join(t.Context(), "web", budgie.Weight(n)); err == nil || !strings.Contains(err.Error(), "want 1 to 256") {
			t.Fatalf("weight %d: %v", n, err)
		}
	}
	second, err := b.Join(t.Context(), "web", budgie.Weight(2))
	if err != nil {
		t.Fatal(err)
	}
	front, err := c.Balance(t.Context(), "web", "127.0.0.1:0", budgie.WithAlgorithm(bunfile.Weighted))
	if err != nil {
		t.Fatal(err)
	}
	for _, url := range []string{first.URL(), second.URL(), "http://" + front.Addr().String()} {
		answers(t, url, fromA, fromB)
		count := map[string]int{}
		for range 30 {
			body, err := answerOf(url)
			if err != nil {
				t.Fatal(err)
			}
			count[body]++
		}
		if n := count[fromA]; n < 19 || n > 21 {
			t.Errorf("%s answers %v, want two thirds from a", url, count)
		}
	}
	if third, err := c.Join(t.Context(), second.ID); err != nil || third.Share() != 4 {
		t.Errorf("what joins has the weight %d, %v, not that of the file", third.Share(), err)
	}
}
