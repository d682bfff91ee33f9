package budgie

import (
	"context"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/runtime"
)

// A program that listens elsewhere than it was told runs, and gets no traffic: that is
// said once, and not of one with a health check, which says it.
func TestLateToServe(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := ln.Addr().String()
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	for name, check := range map[string]*bunfile.Healthcheck{"No health check": nil, "Health check": {TCP: 80}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				spec := bunfile.Spec{Ports: []bunfile.Port{{ContainerPort: 80, Protocol: bunfile.TCP}}, Healthcheck: check}
				st := runtime.Status{Addresses: []runtime.Address{{ContainerPort: 80, Protocol: bunfile.TCP, HostPort: nobody}}}
				began := time.Now()
				var said []time.Duration
				p := newProber(nil, lifecycle.Container{Spec: spec, StartedAt: began}, st, func(problem error) {
					said = append(said, time.Since(began))
					if !strings.Contains(problem.Error(), nobody) {
						t.Errorf("it is said without the address: %v", problem)
					}
				})
				ctx, cancel := context.WithTimeout(t.Context(), 4*lateAfter)
				defer cancel()
				p.run(ctx, make(chan verdict, 100))
				if want := check == nil; len(said) > 1 || (len(said) == 1) != want || want && said[0] < lateAfter {
					t.Errorf("said after %v", said)
				}
			})
		})
	}
}
