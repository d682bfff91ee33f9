// Package behaviourtest says what a reverse proxy has to do for the requests
// that pass through it, as a table of cases. Each runs a proxy in front of
// backends of its own and talks to it as clients do, in HTTP/1.1 and HTTP/2, well
// and badly. Nothing in it is about one proxy: whatever can be started in front of
// some addresses can be the [Subject].
//
// [Test] runs the table as Go tests; [Cases] with [Case.Run] is for programs that
// want the verdicts. All traffic is on the loopback interface.
package behaviourtest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// ErrUnsupported: the proxy has no such thing as the setup asks for. A case that
// meets it does not apply.
var ErrUnsupported = errors.New("the proxy does not offer that")

// Front is what clients speak to the proxy.
type Front string

// The fronts.
const (
	HTTP1 Front = "HTTP/1.1"
	TLS1  Front = "HTTP/1.1 over TLS"
	H2C   Front = "HTTP/2 in clear" // with prior knowledge, RFC 9113 section 3.3
	H2    Front = "HTTP/2 over TLS"
)

// Fronts are all of them.
func Fronts() []Front { return []Front{HTTP1, TLS1, H2C, H2} }

// OverTLS reports whether the connection is one of TLS.
func (f Front) OverTLS() bool { return f == TLS1 || f == H2 }

// IsHTTP2 reports whether clients speak HTTP/2.
func (f Front) IsHTTP2() bool { return f == H2C || f == H2 }

// Check is the health check that a case wants: the proxy requests Path of every
// backend at every Interval, takes one out after Fall failures in a row, and back
// after a success.
type Check struct {
	Path              string
	Interval, Timeout time.Duration
	Fall              int
}

// Setup is what a case wants of a proxy. Backends are asked in turn.
type Setup struct {
	Front Front
	// Certificate is what the proxy shows, for the name "proxy.test", where Front
	// is over TLS. It has a leaf alone.
	Certificate tls.Certificate
	// Backends are addresses, host:port, which all speak HTTP/1.1 in clear.
	Backends []string
	// H2CBackends: the backends are spoken to by HTTP/2 in clear.
	H2CBackends bool
	// Check is nil for none.
	Check *Check
	// Impatient: the bounds of the Subject are to be set. Otherwise the proxy has
	// bounds that no case comes to, of some ten seconds at least.
	Impatient bool
}

// Proxy is a running proxy. Its methods are called by one goroutine at a time,
// but for Stop, which may be called during a Shutdown.
type Proxy interface {
	// Addr is where clients connect to, host:port.
	Addr() string
	// Update replaces the backends, without a restart where the proxy can. It
	// takes effect soon after.
	Update(backends []string) error
	// Shutdown stops accepting connections, waits for requests and switched
	// protocols under way until ctx ends, and cuts off what is left then. What it
	// returns is not looked at.
	Shutdown(ctx context.Context) error
	// Stop ends the proxy at once, if it has not ended, and everything it started.
	Stop()
}

// Subject is what starts proxies.
type Subject struct {
	// Start starts a proxy. An error that is ErrUnsupported says that there is
	// no proxy of such a setup.
	Start func(ctx context.Context, s Setup) (Proxy, error)
	// Bounds that Start sets where a setup is impatient: for the header of a
	// request to come, for a body without progress in either direction, and for a
	// backend's answer to begin.
	Header, Stall, Response time.Duration
}

// Case is one thing that a proxy has to do.
type Case struct {
	// Group is what the case is about, such as "health".
	Group string
	// Name is unique.
	Name string
	// Demand says what the proxy has to do, and by which rule where there is one.
	Demand string
	// Fronts are those for which it has a meaning.
	Fronts []Front
	run    func(*T)
}

// Verdict is how a proxy did in a case.
type Verdict struct {
	// Problems are what was wrong. It passed if there are none.
	Problems []string
	// Skipped says why the case does not apply to the proxy, "" where it does.
	Skipped string
}

// Passed reports whether the proxy did what the case demands.
func (v Verdict) Passed() bool { return v.Skipped == "" && len(v.Problems) == 0 }

// The fronts that cases have a meaning for.
func all() []Front   { return Fronts() }
func over1() []Front { return []Front{HTTP1, TLS1} }
func over2() []Front { return []Front{H2C, H2} }

// Cases are all cases, in the order in which to read them.
func Cases() []Case {
	return slices.Concat(messageCases(), streamCases(), fieldCases(), switchCases(), requestShapes(),
		responseShapes(), healthCases(), retryCases(), badBackendCases(), slowClientCases(), changeCases())
}

// Run runs the case and returns the verdict. It ends soon after ctx.
func (c Case) Run(ctx context.Context, s Subject, f Front) Verdict {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	t := &T{ctx: ctx, subject: s, front: f}
	done := make(chan struct{})
	go func() { // fatalf ends it
		defer close(done)
		defer t.cleanUp()
		c.run(t)
	}()
	<-done
	return Verdict{Problems: t.problems, Skipped: t.skipped}
}

// atOnce is how many cases Test runs at a time. Most of them wait most of the time.
const atOnce = 8

// Test runs all cases as tests, over the given fronts, or all where there are
// none. A case that does not apply is a failure unless excuse returns the reason
// why that is as it should be, or why the case is not run; excuse may be nil. Cases
// run at the same time, whatever the number of processors.
func Test(t *testing.T, s Subject, excuse func(c Case, f Front) string, fronts ...Front) {
	t.Helper()
	if len(fronts) == 0 {
		fronts = Fronts()
	}
	room := make(chan struct{}, atOnce)
	for _, f := range fronts {
		for _, c := range Cases() {
			if !slices.Contains(c.Fronts, f) {
				continue
			}
			name := fmt.Sprintf("%s/%s/%s", strings.ReplaceAll(string(f), "/", " "), c.Group, strings.ReplaceAll(c.Name, "/", " "))
			t.Run(name, func(t *testing.T) {
				if excuse != nil {
					if why := excuse(c, f); why != "" {
						t.Skip(why)
					}
				}
				verdict := make(chan Verdict, 1)
				ctx := t.Context()
				go func() {
					room <- struct{}{}
					defer func() { <-room }()
					verdict <- c.Run(ctx, s, f)
				}()
				t.Parallel() // waits until all have begun
				c.report(t, <-verdict)
			})
		}
	}
}

func (c Case) report(t *testing.T, v Verdict) {
	if v.Skipped != "" {
		t.Errorf("it does not apply: %s", v.Skipped)
	}
	for _, p := range v.Problems {
		t.Error(p)
	}
	if t.Failed() {
		t.Logf("demanded: %s", c.Demand)
	}
}
