package budgie

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/runtime"
)

// settleTime is how long a container with neither port nor health check must
// run to count as ready: long enough to notice a program that ends at once.
const settleTime = 250 * time.Millisecond

// lateAfter is how long a container may run without serving until a person hears of it.
const lateAfter = 5 * time.Second

// verdict is what the probes of a run say after the last one.
type verdict struct {
	ready  bool
	health lifecycle.Health
	// problem is why the last probe failed, empty if it succeeded.
	problem string
}

// prober probes one run of a container.
type prober struct {
	rt    Runtime
	rec   lifecycle.Container
	addrs []runtime.Address
	check bunfile.Healthcheck
	// late is called once if the container has no health check, which would say so,
	// and does not accept connections for lateAfter.
	late func(problem error)
}

func newProber(rt Runtime, rec lifecycle.Container, st runtime.Status, late func(problem error)) *prober {
	p := &prober{rt: rt, rec: rec, addrs: st.Addresses, late: late}
	if rec.Spec.Healthcheck != nil {
		p.check = *rec.Spec.Healthcheck
	}
	if p.check.Timeout <= 0 {
		p.check.Timeout = bunfile.Duration(bunfile.DefaultHealthTimeout)
	}
	return p
}

// run sends a verdict whenever it changes, until ctx ends or nothing more is
// to be found out.
func (p *prober) run(ctx context.Context, verdicts chan<- verdict) {
	send := func(v verdict) {
		select {
		case verdicts <- v:
		case <-ctx.Done():
		}
	}
	declared := p.rec.Spec.Healthcheck != nil
	if !declared && !implied(p.rec.Spec) {
		wait(ctx, settleTime-time.Since(p.rec.StartedAt))
		send(verdict{ready: true})
		return
	}
	tracker := lifecycle.NewTracker(p.check, p.rec.StartedAt)
	tracker.Resume(p.rec.Health)
	last := verdict{p.rec.Ready, p.rec.Health, p.rec.ProbeError}
	for ctx.Err() == nil {
		err := p.probe(ctx)
		if ctx.Err() != nil {
			return
		}
		v := verdict{ready: last.ready || err == nil}
		if err != nil {
			v.problem = err.Error()
		}
		if health := tracker.Observe(err == nil, time.Now()); declared {
			v.health = health
		}
		if v != last {
			send(v)
			last = v
		}
		if !declared && v.ready {
			return
		}
		if !declared && p.late != nil && time.Since(p.rec.StartedAt) >= lateAfter {
			p.late(err)
			p.late = nil
		}
		wait(ctx, tracker.Delay())
	}
}

// probe tries once whether the container serves.
func (p *prober) probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, p.check.Timeout.Std())
	defer cancel()
	switch {
	case p.check.Path != "":
		return p.probeHTTP(ctx)
	case p.check.TCP != 0:
		return p.probeTCP(ctx, p.check.TCP)
	case len(p.check.Command) > 0:
		return p.probeCommand(ctx)
	}
	for _, port := range tcpPorts(p.rec.Spec) {
		if err := p.probeTCP(ctx, port.ContainerPort); err != nil {
			return err
		}
	}
	return nil
}

// addr returns where the node reaches a TCP port of the container; port 0
// stands for the first.
func (p *prober) addr(port int) (string, error) {
	for _, a := range p.addrs {
		if a.Protocol != bunfile.UDP && (port == 0 || a.ContainerPort == port) {
			return a.HostPort, nil
		}
	}
	if port == 0 {
		return "", errors.New("health check needs a tcp port, and the container has none")
	}
	if len(p.addrs) == 0 {
		return "", fmt.Errorf("tcp port %d cannot be asked, since the container has no address: with network: none nothing reaches it", port)
	}
	return "", fmt.Errorf("health check needs tcp port %d, which the container does not declare", port)
}

func (p *prober) probeTCP(ctx context.Context, port int) error {
	addr, err := p.addr(port)
	if err != nil {
		return err
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	return conn.Close()
}

// probeHTTP counts 200 to 399 as healthy, and does not follow a redirect: it
// shows that the server answers, and may lead elsewhere. It speaks as the proxy does.
func (p *prober) probeHTTP(ctx context.Context) error {
	addr, err := p.addr(0)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+p.check.Path, nil)
	if err != nil {
		return err
	}
	req.Close = true
	req.Header.Set("User-Agent", "budgie-health-check")
	transport := &http.Transport{DisableKeepAlives: true}
	if p.rec.Spec.Balance.Protocol == bunfile.ProtocolH2C {
		transport.Protocols = new(http.Protocols)
		transport.Protocols.SetUnencryptedHTTP2(true)
	}
	client := http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	_, _ = io.CopyN(io.Discard, res.Body, 4<<10)
	_ = res.Body.Close()
	if res.StatusCode < 200 || res.StatusCode > 399 {
		return fmt.Errorf("GET %s: %s", p.check.Path, res.Status)
	}
	return nil
}

func (p *prober) probeCommand(ctx context.Context) error {
	execer, ok := p.rt.(runtime.Execer)
	if !ok {
		return fmt.Errorf("runtime %s cannot run a health check command", p.rt.Name())
	}
	code, err := execer.Exec(ctx, p.rec.ID, runtime.ExecConfig{Command: p.check.Command})
	if err != nil {
		return err
	}
	if code != 0 {
		return fmt.Errorf("health check command exited with status %d", code)
	}
	return nil
}
