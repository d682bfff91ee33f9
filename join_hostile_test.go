package budgie_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/budgiehq/budgie"
	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/discovery"
	"github.com/budgiehq/budgie/discovery/discoverytest"
	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/peer"
	"github.com/budgiehq/budgie/runtime"
	"github.com/budgiehq/budgie/trust"
)

// rogue is a member of the flock that says whatever the test wants.
type rogue struct {
	t      *testing.T
	flock  *trust.Flock
	server *peer.Server
	served peer.Container
	// node announces it.
	node *discoverytest.Node

	mu sync.Mutex
	// list is what it says that it runs, instead of served, where that is not nil.
	list func() []peer.Container
	// spec answers for the specification.
	spec func(ctx context.Context) ([]byte, error)
}

func (r *rogue) setList(list func() []peer.Container) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = list
}

func (r *rogue) setSpec(spec func(ctx context.Context) ([]byte, error)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.spec = spec
}

func (r *rogue) Containers(context.Context) ([]peer.Container, error) {
	r.mu.Lock()
	list := r.list
	r.mu.Unlock()
	if list != nil {
		return list(), nil
	}
	return []peer.Container{r.served}, nil
}

func (r *rogue) Watch(context.Context) (<-chan struct{}, error) {
	changes := make(chan struct{}, 1)
	changes <- struct{}{}
	return changes, nil
}

func (r *rogue) Spec(ctx context.Context, _ string) ([]byte, error) {
	r.mu.Lock()
	spec := r.spec
	r.mu.Unlock()
	return spec(ctx)
}

func (r *rogue) Images() []runtime.ImageSource { return nil }

// newRogue starts a member that serves one container, and announces it.
func newRogue(t *testing.T, network *discoverytest.Network, token trust.Token, change func(*peer.Container)) *rogue {
	t.Helper()
	f, err := trust.New(trust.WithToken(token, "test"))
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &rogue{t: t, flock: f, served: peer.Container{
		ID: strings.Repeat("7", 64), ServiceID: strings.Repeat("7", 64), Name: "web", Node: f.NodeID(),
		State: lifecycle.Running, Ready: true, Image: "example/web", Runtime: "fake",
	}}
	if change != nil {
		change(&r.served)
	}
	r.server = peer.NewServer(f, r)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = r.server.Serve(ln)
	}()
	g, err := f.Current()
	if err != nil {
		t.Fatal(err)
	}
	r.node = network.Join(netip.MustParseAddr("127.0.0.1"))
	svc := discovery.Service{
		ID: r.served.ID, ServiceID: r.served.ServiceID, Name: r.served.Name, Image: r.served.Image, Node: f.NodeID(), Flock: g.FlockID(),
		PeerPort: ln.Addr().(*net.TCPAddr).Port,
	}
	if err := r.node.Announce(t.Context(), svc); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = r.server.Close()
		<-done
		_ = r.node.Close()
		_ = f.Close()
	})
	return r
}

// What a member sends is read as strictly as a file, what it asks of the host is
// refused, and nothing is left of the join.
func TestJoinHostileSpec(t *testing.T) {
	const head = "version: \"1.0\"\nname: web\nimage: {docker_image: example/web}\n"
	for _, c := range []struct{ name, text, want string }{
		{"Rubbish", "\x00\x01", "7777777"},
		{"Empty", "", "empty"},
		{"UnknownKey", head + "privileged: true\n", "privileged"},
		{"Anchors", head + "labels: &a {x: y}\n", "anchor"},
		{"Two", head + "---\n" + strings.Replace(head, "web", "other", 1), "2 containers"},
		{"HostVolume", head + "volumes: [{source: /etc, target: /host}]\n", "hands out no volumes"},
		{"BadName", strings.Replace(head, "name: web", "name: ../../etc", 1), "name"},
		{"Command", "version: \"1.0\"\nname: web\nimage: {command: [rm, -rf, /]}\n", "-allow-process"},
	} {
		t.Run(c.name, func(t *testing.T) {
			network, token := discoverytest.NewNetwork(), trust.NewToken()
			r := newRogue(t, network, token, nil)
			r.setSpec(func(context.Context) ([]byte, error) { return []byte(c.text), nil })
			b := newNode(t, network, token)
			_, err := b.Join(t.Context(), "web")
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v; want %q", err, c.want)
			}
			if recs := records(t, b); len(recs) != 0 {
				t.Errorf("it leaves %+v", recs)
			}
		})
	}
}

// No file of this machine is read because another one names it, and what matters
// only where the first replica runs does not come along.
func TestJoinLocalKeys(t *testing.T) {
	network, token := discoverytest.NewNetwork(), trust.NewToken()
	a, b := newNode(t, network, token), newNode(t, network, token)
	front := web("front")
	front.DependsOn, front.EnvFile, front.Environment = []string{"back"}, "/nosuch/front.env", []string{"A=1"}
	if _, err := a.RunAll(t.Context(), []bunfile.Spec{front, web("back")}); err != nil {
		t.Fatal(err)
	}
	rec, err := b.Join(t.Context(), "front")
	if err != nil {
		t.Fatal(err)
	}
	if s := rec.Spec; s.EnvFile != "" || s.DependsOn != nil || len(s.Environment) != 1 {
		t.Errorf("joined %+v", s)
	}
	r := newRogue(t, network, token, func(c *peer.Container) { c.Name = "rogue" })
	r.setSpec(func(context.Context) ([]byte, error) {
		return []byte("version: \"1.0\"\nname: rogue\nimage: {docker_image: example/web}\nenv_file: /etc/shadow\n"), nil
	})
	rec, err = b.Join(t.Context(), "rogue")
	if err != nil || rec.Spec.EnvFile != "" || len(rec.Spec.Environment) != 0 {
		t.Errorf("joined %+v, %v", rec.Spec, err)
	}
}

// The node dies while it is asked: a clear error, nothing left; and where another
// node runs the service, that one is asked.
func TestJoinNodeDies(t *testing.T) {
	network, token := discoverytest.NewNetwork(), trust.NewToken()
	r := newRogue(t, network, token, nil)
	r.setSpec(func(context.Context) ([]byte, error) {
		go r.server.Close() // waits for this very call
		return nil, errors.New("dying")
	})
	b := newNode(t, network, token)
	if _, err := b.Join(t.Context(), "web"); err == nil || !strings.Contains(err.Error(), "specification of 777777777777 from node") {
		t.Errorf("got %v", err)
	}
	if recs := records(t, b); len(recs) != 0 {
		t.Errorf("it leaves %+v", recs)
	}
	// Now it does not answer at all.
	_ = r.server.Close()
	_, err := b.Join(t.Context(), "web")
	if !errors.Is(err, budgie.ErrUnreachable) || !strings.Contains(err.Error(), "does not answer") {
		t.Errorf("got %v", err)
	}
}

// The node dies when a part of the image has come: the rest comes from another
// node, or, where there is none, from the registry; and where that has nothing
// either, the error says who was asked, and nothing is left.
func TestJoinImageSourceDies(t *testing.T) {
	for _, c := range []struct {
		name  string
		other bool
		pull  bunfile.PullPolicy
		want  string
	}{
		{"AnotherNode", true, bunfile.PullNever, ""},
		{"Registry", false, bunfile.PullMissing, ""},
		{"Nobody", false, bunfile.PullNever, "peer "},
	} {
		t.Run(c.name, func(t *testing.T) {
			network, token := discoverytest.NewNetwork(), trust.NewToken()
			a, b := newNode(t, network, token), newNode(t, network, token)
			if _, err := a.runtime.Pull(t.Context(), bunfile.Image{DockerImage: "example/web"}, nil); err != nil {
				t.Fatal(err)
			}
			spec := web("web")
			spec.Image.Pull = c.pull
			if _, err := a.Run(t.Context(), spec); err != nil {
				t.Fatal(err)
			}
			if c.other {
				if _, err := newNode(t, network, token).Join(t.Context(), "web"); err != nil {
					t.Fatal(err)
				}
			}
			_, err := b.Join(t.Context(), "web", budgie.OnPull(func(_ string, p runtime.PullProgress) {
				if p.Step == runtime.PullFetching { // the manifest is there, and the layer is not
					_ = a.Close()
				}
			}))
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v; want %q", err, c.want)
			}
			if recs := records(t, b); (len(recs) == 1) != (c.want == "") {
				t.Errorf("there is %+v", recs)
			}
		})
	}
}

func TestJoinAsksTheNextNode(t *testing.T) {
	network, token := discoverytest.NewNetwork(), trust.NewToken()
	a, b := newNode(t, network, token), newNode(t, network, token)
	first, err := a.Run(t.Context(), web("web"))
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan struct{}, 10)
	r := newRogue(t, network, token, func(c *peer.Container) { c.ServiceID = first.ServiceID })
	r.setSpec(func(context.Context) ([]byte, error) {
		asked <- struct{}{}
		return nil, errors.New("no")
	})
	rec, err := b.Join(t.Context(), "web")
	if err != nil {
		t.Fatal(err)
	}
	answer(t, rec)
}

// The end of the context ends a join at any step, and leaves nothing.
func TestJoinInterrupted(t *testing.T) {
	network, token := discoverytest.NewNetwork(), trust.NewToken()
	b := newNode(t, network, token)
	ctx, cancel := context.WithCancel(t.Context())
	r := newRogue(t, network, token, nil)
	r.setSpec(func(served context.Context) ([]byte, error) {
		cancel()
		<-served.Done()
		return nil, served.Err()
	})
	if _, err := b.Join(ctx, "web"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	// Before anything is heard.
	if _, err := b.Join(ctx, "nosuch"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if recs := records(t, b); len(recs) != 0 {
		t.Errorf("it leaves %+v", recs)
	}
}

// The one announcement that is heard of a replica leads nowhere, as a liar's does
// that hides the true one: the other nodes of the flock are asked.
func TestJoinAsksNodesThatAnnounceOtherThings(t *testing.T) {
	network, token := discoverytest.NewNetwork(), trust.NewToken()
	a := newNode(t, network, token)
	first, err := a.Run(t.Context(), web("web"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Run(t.Context(), web("other")); err != nil {
		t.Fatal(err)
	}
	s := discovery.Collect(t.Context(), browse(t, a))[0]
	s.ID, s.ServiceID, s.Name, s.Image = first.ID, first.ID, "web", ""
	liar := network.Join(netip.MustParseAddr("127.0.0.2")) // nobody answers there
	for _, node := range []string{s.Node, strings.Repeat("6", 64)} {
		s.Node = node
		if err := liar.Announce(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		plan, err := newNode(t, network, token).PlanJoin(t.Context(), "web")
		if err != nil || plan.ServiceID != first.ID {
			t.Errorf("the plan is %+v, %v", plan, err)
		}
	}
}
