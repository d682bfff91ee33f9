package budgie_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/budgiehq/budgie"
	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/discovery"
	"github.com/budgiehq/budgie/discovery/discoverytest"
	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/peer"
	"github.com/budgiehq/budgie/runtime"
	"github.com/budgiehq/budgie/runtime/runtimetest"
	"github.com/budgiehq/budgie/store/memory"
	"github.com/budgiehq/budgie/trust"
)

// newNode returns a client on fakes of its own on a network, in a token's flock.
func newNode(t *testing.T, network *discoverytest.Network, token trust.Token, opts ...budgie.Option) *fakes {
	t.Helper()
	f := &fakes{runtime: runtimetest.NewFake(), store: memory.New(), network: network}
	f.node = network.Join()
	f.Client = f.client(t, append([]budgie.Option{budgie.WithToken(token)}, opts...)...)
	return f
}

// answer returns what a container's first endpoint answers.
func answer(t *testing.T, rec lifecycle.Container) string {
	t.Helper()
	resp, err := http.Get(rec.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v", rec.URL(), resp.Status, err)
	}
	http.DefaultClient.CloseIdleConnections()
	return string(body)
}

// A replica joins from another node, serves, and needs that node no more: a
// third one joins from it.
func TestJoin(t *testing.T) {
	network, token := discoverytest.NewNetwork(), trust.NewToken()
	a, b, c := newNode(t, network, token), newNode(t, network, token), newNode(t, network, token)
	spec := web("web")
	spec.Environment = []string{"GREETING=hi"}
	first, err := a.Run(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	var plan budgie.JoinPlan
	var pulled []runtime.PullStep
	second, err := b.Join(t.Context(), "web", budgie.OnJoin(func(p budgie.JoinPlan) { plan = p }),
		budgie.OnPull(func(_ string, p runtime.PullProgress) { pulled = append(pulled, p.Step) }))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(pulled, runtime.PullFetched) || slices.Contains(pulled, runtime.PullResolving) {
		t.Errorf("the image came by %q; want it from the node, without a registry", pulled)
	}
	if second.ImageDigest != first.ImageDigest || plan.ImageDigest != first.ImageDigest {
		t.Errorf("it runs the image %q, planned %q; want %q", second.ImageDigest, plan.ImageDigest, first.ImageDigest)
	}
	answer(t, second)
	if second.ID == first.ID || second.ServiceID != first.ID || second.Name != "web" || second.Spec.Environment[0] != "GREETING=hi" {
		t.Errorf("the replica of %s is %+v", first.ID, second)
	}
	if len(plan.Replicas) != 1 || plan.Replicas[0].ID != first.ID || plan.ServiceID != first.ID || plan.Runtime != second.Runtime {
		t.Errorf("the plan was %+v", plan)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	third, err := c.Join(t.Context(), second.ID[:12], budgie.Named("third"))
	if err != nil {
		t.Fatal(err)
	}
	answer(t, third)
	if third.ServiceID != first.ID || third.Name != "third" {
		t.Errorf("the third replica is %+v", third)
	}
	// Leaving is clean for the others.
	if err := c.Stop(t.Context(), "third"); err != nil {
		t.Fatal(err)
	}
	answer(t, second)
}

// What a join refuses, why, and that it leaves nothing.
func TestJoinRefuses(t *testing.T) {
	network, token := discoverytest.NewNetwork(), trust.NewToken()
	a, b := newNode(t, network, token), newNode(t, network, token)
	stranger := newNode(t, network, trust.NewToken())
	run := func(on *fakes, change func(*bunfile.Spec)) lifecycle.Container {
		t.Helper()
		spec := web("web")
		change(&spec)
		rec, err := on.Run(t.Context(), spec)
		if err != nil {
			t.Fatal(err)
		}
		return rec
	}
	run(a, func(s *bunfile.Spec) { s.Name = "one"; s.Replicas = bunfile.Replicas{Min: 1, Max: 1} })
	run(a, func(s *bunfile.Spec) { s.Name = "two" })
	run(a, func(s *bunfile.Spec) {
		s.Name, s.Image = "command", bunfile.Image{Command: runtimetest.FakeCommand("serve")}
	})
	run(a, func(s *bunfile.Spec) { s.Name = "twice" })
	run(stranger, func(s *bunfile.Spec) { s.Name = "foreign" })
	taken := run(b, func(s *bunfile.Spec) { s.Name = "two" })
	if _, err := b.Join(t.Context(), "twice"); err != nil {
		t.Fatal(err)
	}
	before := len(records(t, b))
	for _, c := range []struct {
		name, ref string
		want      error
		text      string
	}{
		{"Unknown", "nosuch", budgie.ErrNotFound, "budgie chirp"},
		{"Empty", "", nil, "empty"},
		{"Full", "one", budgie.ErrReplicas, "replicas.max is 1"},
		{"Process", "command", budgie.ErrNotAllowed, "-allow-process"},
		{"Twice", "twice", budgie.ErrJoined, "its replica on this machine"},
		{"OtherFlock", "foreign", budgie.ErrNotTrusted, "budgie token set"},
		{"Own", taken.ID, budgie.ErrJoined, "of this machine"},
		{"NameTaken", "two", budgie.ErrExists, "another name"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := b.Join(t.Context(), c.ref)
			if err == nil || c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("got %v; want %v with %q", err, c.want, c.text)
			}
			if after := records(t, b); len(after) != before {
				t.Errorf("it leaves %+v", after)
			}
		})
	}
}

func records(t *testing.T, f *fakes) []lifecycle.Container {
	t.Helper()
	recs, err := f.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return recs
}

// A replica that does not become ready is not left behind, and a host port that
// is taken is noticed before anything is fetched.
func TestJoinThatFailsLeavesNothing(t *testing.T) {
	network, token := discoverytest.NewNetwork(), trust.NewToken()
	a := newNode(t, network, token)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := ln.Addr().(*net.TCPAddr).Port
	_ = ln.Close()
	spec := web("web")
	spec.Ports[0].HostPort = port
	if _, err := a.Run(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	b := newNode(t, network, token)
	_, err = b.PlanJoin(t.Context(), "web") // the port is a's, on this machine
	if err == nil || !strings.Contains(err.Error(), "is taken") || !strings.Contains(err.Error(), strconv.Itoa(port)) {
		t.Errorf("the plan: %v", err)
	}
	broken := &breakable{Fake: runtimetest.NewFake()}
	broken.refuse.Store(true)
	c := newNode(t, network, token, budgie.WithRuntime(broken))
	if _, err := a.Run(t.Context(), web("other")); err != nil {
		t.Fatal(err)
	}
	_, err = c.Join(t.Context(), "other", budgie.OnRuntime("breakable"))
	if _, ok := errors.AsType[*budgie.NotReadyError](err); !ok {
		t.Errorf("got %v; want a NotReadyError", err)
	}
	if recs := records(t, c); len(recs) != 0 {
		t.Errorf("it leaves %+v", recs)
	}
}

// Replicas that join at the same time do not together exceed replicas.max: who
// comes last withdraws, and leaves nothing.
func TestJoinAtOnce(t *testing.T) {
	network, token := discoverytest.NewNetwork(), trust.NewToken()
	a := newNode(t, network, token)
	spec := web("web")
	spec.Replicas = bunfile.Replicas{Min: 1, Max: 3}
	if _, err := a.Run(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	nodes := make([]*fakes, 4)
	errs := make([]error, len(nodes))
	for i := range nodes {
		nodes[i] = newNode(t, network, token)
	}
	var wg sync.WaitGroup
	for i, n := range nodes {
		wg.Go(func() { _, errs[i] = n.Join(t.Context(), "web") })
	}
	wg.Wait()
	joined := 0
	for i, n := range nodes {
		recs := records(t, n)
		switch {
		case errs[i] == nil && len(recs) == 1:
			joined++
		case !errors.Is(errs[i], budgie.ErrReplicas) || len(recs) != 0:
			t.Errorf("node %d: %v, with %+v", i, errs[i], recs)
		}
	}
	if joined != 2 {
		t.Errorf("%d of %d joined; want 2: %v", joined, len(nodes), errs)
	}
}

// A name that two services of the flock have needs an id, and a plan changes
// nothing.
func TestJoinAmbiguous(t *testing.T) {
	network, token := discoverytest.NewNetwork(), trust.NewToken()
	a, b, c := newNode(t, network, token), newNode(t, network, token), newNode(t, network, token)
	first, err := a.Run(t.Context(), web("web"))
	if err != nil {
		t.Fatal(err)
	}
	second, err := b.Run(t.Context(), web("web"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Join(t.Context(), "web")
	if !errors.Is(err, budgie.ErrAmbiguous) || !strings.Contains(err.Error(), first.ShortID()) || !strings.Contains(err.Error(), second.ShortID()) {
		t.Fatalf("got %v", err)
	}
	plan, err := c.PlanJoin(t.Context(), second.ShortID())
	if err != nil || plan.ServiceID != second.ID || plan.Spec.Name != "web" {
		t.Errorf("got %+v, %v", plan, err)
	}
	if recs := records(t, c); len(recs) != 0 {
		t.Errorf("the plan leaves %+v", recs)
	}
}

// Two flocks announce the same id: whichever announcement is heard, nothing is
// joined but what a node of this flock proves to run.
func TestJoinIDOfTwoFlocks(t *testing.T) {
	network, token := discoverytest.NewNetwork(), trust.NewToken()
	a, b := newNode(t, network, token), newNode(t, network, token)
	first, err := a.Run(t.Context(), web("web"))
	if err != nil {
		t.Fatal(err)
	}
	newRogue(t, network, trust.NewToken(), func(c *peer.Container) { c.ID, c.ServiceID = first.ID, first.ID })
	plan, err := b.PlanJoin(t.Context(), first.ID)
	switch {
	case err == nil && plan.ServiceID == first.ID && len(plan.Replicas) == 1:
	case errors.Is(err, budgie.ErrNotTrusted) && strings.Contains(err.Error(), "another flock"):
	default:
		t.Errorf("got %+v, %v", plan, err)
	}
}

// With the user's leave a command of the machine is joined, too.
func TestJoinAllowedProcess(t *testing.T) {
	network, token := discoverytest.NewNetwork(), trust.NewToken()
	a, b := newNode(t, network, token), newNode(t, network, token)
	spec := web("web")
	spec.Image = bunfile.Image{Command: runtimetest.FakeCommand("serve")}
	if _, err := a.Run(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	rec, err := b.Join(t.Context(), "web", budgie.AllowProcess())
	if err != nil {
		t.Fatal(err)
	}
	answer(t, rec)
}

// Somebody who is not in the flock announces a replica with the flock's id, at an
// address of his own: nobody says more to him than a handshake that fails, and
// traffic does not go there.
func TestSpoofedAnnouncement(t *testing.T) {
	network, token := discoverytest.NewNetwork(), trust.NewToken()
	a, b := newNode(t, network, token), newNode(t, network, token)
	first, err := a.Run(t.Context(), web("web"))
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	heard := make(chan []byte)
	go func() {
		defer close(heard)
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			_ = conn.SetDeadline(time.Now().Add(time.Second))
			buf := make([]byte, 1<<16)
			n, _ := conn.Read(buf)
			_ = conn.Close()
			heard <- buf[:n]
		}
	}()
	var seen [][]byte
	done := make(chan struct{})
	go func() {
		defer close(done)
		for b := range heard {
			seen = append(seen, b)
		}
	}()
	generation := flockOf(t, token)
	spoofed := discovery.Service{
		ID: strings.Repeat("5", 64), ServiceID: first.ServiceID, Name: "web", Node: strings.Repeat("6", 64), Flock: generation,
		Ports:    []discovery.Port{{ContainerPort: 80, HostPort: ln.Addr().(*net.TCPAddr).Port, Protocol: bunfile.TCP, HTTP: true}},
		PeerPort: ln.Addr().(*net.TCPAddr).Port,
	}
	liar := network.Join(netip.MustParseAddr("127.0.0.1"))
	if err := liar.Announce(t.Context(), spoofed); err != nil {
		t.Fatal(err)
	}
	f, err := b.Balance(t.Context(), "web", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	rec, err := b.Join(t.Context(), "web")
	if err != nil {
		t.Fatal(err)
	}
	if rec.ServiceID != first.ServiceID {
		t.Errorf("joined %+v", rec)
	}
	// Who closes the connection on a handshake might as well be dead.
	if _, err := b.PlanJoin(t.Context(), spoofed.ID); !errors.Is(err, budgie.ErrNotTrusted) && !errors.Is(err, budgie.ErrUnreachable) {
		t.Errorf("joining the liar's: %v", err)
	}
	for served := 0; served < 20; {
		resp, err := http.Get("http://" + f.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		switch resp.StatusCode {
		case http.StatusOK:
			served++
		case http.StatusServiceUnavailable: // no replica is proved yet
		default:
			t.Fatalf("the frontend answers %s", resp.Status)
		}
	}
	http.DefaultClient.CloseIdleConnections()
	if err := f.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	_ = ln.Close()
	<-done
	if len(seen) == 0 {
		t.Error("the liar was not even asked for a proof")
	}
	for _, said := range seen {
		// A TLS record of a handshake, and nothing else: RFC 8446 section 5.1.
		if len(said) < 3 || said[0] != 22 || said[1] != 3 {
			t.Errorf("the liar heard %q", said)
		}
	}
}

// flockOf returns the id of a token's flock.
func flockOf(t *testing.T, token trust.Token) string {
	t.Helper()
	f, err := trust.New(trust.WithToken(token, "test"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	g, err := f.Current()
	if err != nil {
		t.Fatal(err)
	}
	return g.FlockID()
}

// Nodes that are named by their address are found without any announcement, and
// a bad address is refused at the start.
func TestGivenPeers(t *testing.T) {
	token := trust.NewToken()
	a := newNode(t, discoverytest.NewNetwork(), token)
	if _, err := a.Run(t.Context(), web("web")); err != nil {
		t.Fatal(err)
	}
	announced := discovery.Collect(t.Context(), browse(t, a))
	if len(announced) != 1 || announced[0].PeerPort == 0 {
		t.Fatalf("announced is %+v", announced)
	}
	addr := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(announced[0].PeerPort)).String()
	b := newNode(t, discoverytest.NewNetwork(), token, budgie.WithPeers(addr))
	rec, err := b.Join(t.Context(), "web")
	if err != nil {
		t.Fatal(err)
	}
	answer(t, rec)
	for _, bad := range []string{"", ":18733", "host:0", "host:70000", "a:b:c", "host:http"} {
		if _, err := budgie.New(budgie.WithDataDir(t.TempDir()), budgie.WithPeers(bad)); err == nil || !strings.Contains(err.Error(), "WithPeers") {
			t.Errorf("peer %q: %v", bad, err)
		}
	}
}

// Nodes that are named by their address and do not answer are named, also where
// that is still open.
func TestPeerProblems(t *testing.T) {
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = dead.Close()
	addrs := []string{mute.Addr().String(), dead.Addr().String(), mute.Addr().String()}
	b := newNode(t, discoverytest.NewNetwork(), trust.NewToken(), budgie.WithPeers(addrs...))
	if problems := b.PeerProblems(); problems != nil {
		t.Errorf("nobody was asked, and there is %v", problems)
	}
	events, err := b.Discover(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for problems := b.PeerProblems(); ; problems = b.PeerProblems() {
		if len(problems) != 2 || problems[0].Addr != addrs[0] || problems[1].Addr != addrs[1] {
			t.Fatalf("the problems are %v", problems)
		}
		if problems[1].Err != nil {
			if problems[0].Err != nil || !strings.Contains(problems[0].String(), "has not answered so far") {
				t.Errorf("the one that takes its time: %v", problems[0])
			}
			break
		}
		select {
		case <-events:
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// browse returns the events until one is there.
func browse(t *testing.T, f *fakes) <-chan discovery.Event {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	events, err := f.node.Browse(ctx)
	if err != nil {
		t.Fatal(err)
	}
	out := make(chan discovery.Event, 1)
	out <- <-events
	cancel()
	close(out)
	return out
}
