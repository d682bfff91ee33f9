package budgie_test

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/budgiehq/budgie"
	"github.com/budgiehq/budgie/balance"
	"github.com/budgiehq/budgie/bunfile"
)

// fetchAs asks as a user, by a header.
func fetchAs(t *testing.T, url, user string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-User", user)
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("got %d %q, %v", resp.StatusCode, body, err)
	}
	return string(body)
}

// Sticky sessions go to replicas of several nodes, and stay there.
func TestBalanceByHeader(t *testing.T) {
	_, client := replicas(t, 3)
	hash := bunfile.Hash{Header: "X-User"}
	f, err := client.Balance(t.Context(), "web", "127.0.0.1:0", budgie.WithAlgorithm(bunfile.ConsistentHash), budgie.WithHash(hash))
	if err != nil {
		t.Fatal(err)
	}
	awaitBackends(t, f, 3)
	seen := make(map[string]bool)
	for i := range 40 {
		user := fmt.Sprint("user ", i)
		home := fetchAs(t, "http://"+f.Addr().String(), user)
		seen[home] = true
		if again := fetchAs(t, "http://"+f.Addr().String(), user); again != home {
			t.Errorf("%s was served by %s, then by %s", user, home, again)
		}
	}
	if len(seen) < 2 {
		t.Errorf("40 users were all served by %v", seen)
	}
	if _, err := client.Balance(t.Context(), "web", "127.0.0.1:0", budgie.WithHash(hash)); !errors.Is(err, balance.ErrInvalid) {
		t.Errorf("a hash without its algorithm: %v", err)
	}
}

// recorder keeps what the frontends were asked to be.
type recorder struct {
	budgie.Balancer
	mu  sync.Mutex
	all []balance.Config
}

func (r *recorder) Listen(ctx context.Context, cfg balance.Config) (balance.Frontend, error) {
	r.mu.Lock()
	r.all = append(r.all, cfg)
	r.mu.Unlock()
	return r.Balancer.Listen(ctx, cfg)
}

// What a .bun file says of balancing reaches the published port.
func TestPublishedPortsBalanceAsTheFileSays(t *testing.T) {
	for _, algorithm := range append(bunfile.Algorithms(), "") {
		t.Run("algorithm="+string(algorithm), func(t *testing.T) {
			spec := web("web")
			spec.Balance.Mode, spec.Healthcheck = bunfile.ModeHTTP, nil // the fake speaks HTTP/1.1 alone
			spec.Balance.Algorithm = algorithm
			if algorithm == bunfile.ConsistentHash {
				spec.Balance.Hash.Cookie = "session"
				spec.Balance.Protocol = bunfile.ProtocolH2C
			}
			r := &recorder{Balancer: balance.New()}
			c := newFakes(t).client(t, budgie.WithBalancer(r))
			if _, err := c.Run(t.Context(), spec); err != nil {
				t.Fatal(err)
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			want, protocol := cmp.Or(algorithm, bunfile.RoundRobin), cmp.Or(spec.Balance.Protocol, bunfile.ProtocolAuto)
			if len(r.all) != 1 || r.all[0].Protocol != protocol || r.all[0].Algorithm != want || r.all[0].Hash != spec.Balance.Hash || r.all[0].Mode != bunfile.ModeHTTP {
				t.Errorf("the frontends are %+v", r.all)
			}
		})
	}
}

// The options of Balance reach its frontend.
func TestBalanceOptions(t *testing.T) {
	r := &recorder{Balancer: balance.New()}
	c := newFakes(t).client(t, budgie.WithBalancer(r))
	offer := &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, errors.New("none") }}
	if _, err := c.Balance(t.Context(), "web", "127.0.0.1:0", budgie.WithProtocol(bunfile.ProtocolH2C), budgie.WithTLS(offer)); err != nil {
		t.Fatal(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.all) != 1 || r.all[0].Protocol != bunfile.ProtocolH2C || r.all[0].TLS != offer {
		t.Errorf("the frontends are %+v", r.all)
	}
}

// The checks of replicas of other machines find a dead one within 3 s at worst,
// also one that lets them wait, and need more than one failure for it.
func TestCaseB4PaceOfReplicaChecks(t *testing.T) {
	r := &recorder{Balancer: balance.New()}
	c := newFakes(t).client(t, budgie.WithBalancer(r))
	if _, err := c.Balance(t.Context(), "web", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	check := r.all[0].Check
	if check == nil || check.Interval <= 0 || check.Timeout <= 0 {
		t.Fatalf("check = %+v; want its own pace", check)
	}
	fall := cmp.Or(check.Fall, 3) // the default, see balance.Check
	worst := check.Interval + time.Duration(fall)*max(check.Interval, check.Timeout)
	if worst > 3*time.Second || fall < 2 {
		t.Errorf("check = %+v: a dead replica leaves after %v, %d failures; want 3 s, more than one", check, worst, fall)
	}
}
