package budgie_test

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/budgiehq/budgie"
	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/discovery/discoverytest"
	"github.com/budgiehq/budgie/runtime/runtimetest"
	"github.com/budgiehq/budgie/trust"
)

// preferLocal makes a service one whose machines serve by their own replicas first.
func preferLocal(s *bunfile.Spec) { s.Balance.Prefer = bunfile.PreferLocal }

// While its own container does not run, or its health check fails, the port leads to
// the others, and no request fails for want of that.
func TestPreferLocalFailsOver(t *testing.T) {
	t.Parallel()
	network, token := discoverytest.NewNetwork(), trust.NewToken()
	var sick atomic.Bool
	broken := &breakable{Fake: runtimetest.NewFake(runtimetest.WithHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/health" && sick.Load() {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		fmt.Fprint(w, "own")
	})))}
	a, b := newNode(t, network, token, budgie.WithRuntime(broken)), newNamedNode(t, "b", network, token)
	spec := web("web")
	preferLocal(&spec)
	spec.Healthcheck.Path, spec.Healthcheck.Retries = "/health", 1
	spec.RestartPolicy.Name = bunfile.RestartNo // the unhealthy is left alone
	first, err := a.Run(t.Context(), spec, budgie.OnRuntime("breakable"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Join(t.Context(), "web"); err != nil {
		t.Fatal(err)
	}
	answers(t, first.URL(), "own")
	sick.Store(true)
	answers(t, first.URL(), fromB)
	sick.Store(false)
	answers(t, first.URL(), "own")

	// It is alone again.
	if err := b.Remove(t.Context(), "web", budgie.Force()); err != nil {
		t.Fatal(err)
	}
	answers(t, first.URL(), "own")
	sick.Store(true)
	answers(t, first.URL(), "own") // rather than nobody
}

// With every algorithm and in both modes: the port leads to its own container alone,
// after a crash to the others, and from the next start on to its own again.
func TestPreferLocalCrash(t *testing.T) {
	for _, mode := range []bunfile.BalanceMode{bunfile.ModeHTTP, bunfile.ModeTCP} {
		for _, alg := range bunfile.Algorithms() {
			t.Run(fmt.Sprintf("%s/%s", mode, alg), func(t *testing.T) {
				t.Parallel()
				spec := always(web("web"))
				preferLocal(&spec)
				spec.Balance.Mode, spec.Balance.Algorithm = mode, alg
				preferLocalCrash(t, spec)
			})
		}
	}
}

func preferLocalCrash(t *testing.T, spec bunfile.Spec) {
	network, token := discoverytest.NewNetwork(), trust.NewToken()
	broken := &breakable{Fake: runtimetest.NewFake(runtimetest.WithHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "own")
	})))}
	a, b := newNode(t, network, token, budgie.WithRuntime(broken)), newNamedNode(t, "b", network, token)
	first, err := a.Run(t.Context(), spec, budgie.OnRuntime("breakable"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Join(t.Context(), "web"); err != nil {
		t.Fatal(err)
	}
	theirs := fromB
	if spec.Balance.Mode == bunfile.ModeTCP {
		theirs = "b for "
	}
	url := "http://" + first.Endpoints[0].String()
	answers(t, url, "own")
	broken.refuse.Store(true)
	if err := broken.Crash(first.ID, 1); err != nil {
		t.Fatal(err)
	}
	answers(t, url, theirs)
	broken.refuse.Store(false)
	answers(t, url, "own")
	for range 10 { // that there is another one is known
		if got, err := answerOf(url); err != nil || got != "own" {
			t.Fatalf("%q answers, %v", got, err)
		}
	}
}
