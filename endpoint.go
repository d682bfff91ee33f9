package budgie

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"slices"

	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/peer"
	"github.com/budgiehq/budgie/runtime"
	"github.com/budgiehq/budgie/store"
	"github.com/budgiehq/budgie/trust"
)

// endpoint returns the port on which this client answers the other nodes of the
// flock, about the containers that it keeps. It opens the endpoint at the first
// need; one that cannot be opened is tried again the next time. It lives until
// the client ends.
func (c *Client) endpoint(ctx context.Context) (port int, err error) {
	f, err := c.openFlock()
	if err != nil {
		return 0, err
	}
	c.endpointMu.Lock()
	defer c.endpointMu.Unlock()
	if c.endpointPort != 0 {
		return c.endpointPort, nil
	}
	ln, hold, err := c.listenEndpoint(ctx)
	if err != nil {
		return 0, fmt.Errorf("open the endpoint for other nodes: %w", err)
	}
	s := peer.NewServer(f, &node{c, f}, peer.WithLogger(c.log))
	held := c.hold(heldSocket{scope: scopeEndpoint, name: endpointSocket, leave: s.Leave}, ln)
	serve := func() {
		defer held.forget()
		select {
		case <-hold:
		case <-c.life.Done():
		}
		stop := context.AfterFunc(c.life, func() { _ = s.Close() })
		defer stop()
		if err := s.Serve(ln); err != nil && c.life.Err() == nil {
			c.log.Error("other nodes cannot ask this one any more", "error", err)
		}
		_ = s.Close() // waits for what is under way; it tells nothing new
	}
	if !c.spawn(serve) {
		_ = ln.Close()
		return 0, ErrClosed
	}
	c.endpointPort = portOf(ln.Addr())
	return c.endpointPort, nil
}

// endpointSocket is how another process knows the socket of the endpoint.
const endpointSocket = "endpoint"

// listenEndpoint opens the socket of the endpoint, or returns one that was taken over,
// and what it has to wait for before it accepts.
func (c *Client) listenEndpoint(ctx context.Context) (net.Listener, <-chan struct{}, error) {
	if s, hold, ok := c.hand.inherit(endpointSocket); ok && s.Listener != nil {
		return s.Listener, hold, nil
	}
	atOnce := make(chan struct{})
	close(atOnce)
	ln, err := peer.Listen(ctx, c.cfg.bind)
	return ln, atOnce, err
}

// node is what this client tells the other nodes of the flock: a [peer.Node].
type node struct {
	c     *Client
	flock *trust.Flock
}

// Containers lists the containers that the client keeps.
func (n *node) Containers(ctx context.Context) ([]peer.Container, error) {
	recs, err := n.c.store.List(ctx)
	if err != nil {
		return nil, err
	}
	var kept []peer.Container
	for _, rec := range recs {
		if n.c.keeperOf(rec.ID) != nil {
			kept = append(kept, n.container(rec))
		}
	}
	return kept, nil
}

func (n *node) container(rec lifecycle.Container) peer.Container {
	var term uint64
	if len(rec.Spec.Volumes) > 0 {
		term = rec.VolumesTerm()
	}
	return peer.Container{
		ID: rec.ID, ServiceID: rec.ServiceID, Name: rec.Name, Node: n.flock.NodeID(),
		// One that is ending already is not to step back any more.
		Restored: rec.Restored && rec.Desired == lifecycle.WantRunning, Yields: rec.Yields() && rec.Desired == lifecycle.WantRunning,
		Weight: rec.Share(), MinReplicas: rec.Spec.Replicas.Min, MaxReplicas: rec.Spec.Replicas.Max,
		State: rec.State, Ready: rec.Ready && rec.Desired == lifecycle.WantRunning, Health: rec.Health, CreatedAt: rec.CreatedAt, Joining: rec.Joining != nil,
		Image: rec.Spec.Image.DockerImage, ImageDigest: rec.ImageDigest, Runtime: rec.Runtime, Endpoints: rec.Endpoints,
		VolumesTerm: term, Volumes: toldOf(rec.Volumes),
	}
}

// toldOf returns what other nodes are told of the copies of volumes: no paths of
// this one.
func toldOf(volumes []lifecycle.VolumeSync) []lifecycle.VolumeSync {
	told := slices.Clone(volumes)
	for i := range told {
		told[i].Kept = ""
		if told[i].Phase == lifecycle.SyncCut {
			told[i].Reason = ""
		}
	}
	return told
}

// Watch tells of changes of the containers, and of what Hosting returns.
func (n *node) Watch(ctx context.Context) (<-chan struct{}, error) {
	changes, err := n.c.store.Watch(ctx)
	if err != nil {
		return nil, err
	}
	news, forget := n.c.hostNews.listen()
	both := make(chan struct{}, 1)
	merge := func() {
		defer close(both)
		defer forget()
		for {
			select {
			case _, open := <-changes:
				if !open {
					return
				}
			case <-news:
			case <-ctx.Done():
				return
			}
			select {
			case both <- struct{}{}:
			default: // there is one to come
			}
		}
	}
	if !n.c.spawn(merge) {
		forget()
		return nil, ErrClosed
	}
	return both, nil
}

// Hosting returns what this client tells of its being a host. It implements
// [peer.Hoster].
func (n *node) Hosting() *peer.Hosting { return n.c.hosting() }

// kept returns the record of a container that the client keeps.
func (n *node) kept(ctx context.Context, id string) (lifecycle.Container, error) {
	rec, err := n.c.store.Get(ctx, id)
	if err == nil && n.c.keeperOf(rec.ID) == nil {
		err = store.ErrNotFound
	}
	if err != nil {
		return lifecycle.Container{}, fmt.Errorf("%w: %w", peer.ErrNotFound, err)
	}
	return rec, nil
}

// Spec returns the text of a container's specification, without what concerns
// this machine alone: the file that its environment came from, and what started
// before it.
func (n *node) Spec(ctx context.Context, id string) ([]byte, error) {
	rec, err := n.kept(ctx, id)
	if err != nil {
		return nil, err
	}
	spec := rec.Spec
	spec.EnvFile, spec.DependsOn = "", nil
	return bunfile.Marshal(spec)
}

// OpenVolume returns what sends a volume of a container: the directory that the
// container's own record has for the target, whatever its mode. It implements
// [peer.VolumeSender].
func (n *node) OpenVolume(ctx context.Context, id, target string) (func(context.Context, io.ReadWriteCloser) error, error) {
	rec, err := n.kept(ctx, id)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(rec.Spec.Volumes, func(v bunfile.Volume) bool { return v.Target == target })
	if i < 0 {
		return nil, fmt.Errorf("%w: container %s has no volume %s", peer.ErrNotFound, rec.ShortID(), target)
	}
	dir := rec.Spec.Volumes[i].Source
	if err := n.mayLeave(dir); err != nil {
		return nil, err
	}
	return func(ctx context.Context, conn io.ReadWriteCloser) error {
		_, err := n.c.cfg.syncer.Send(ctx, conn, dir)
		return err
	}, nil
}

// mayLeave says why a volume cannot be sent, without its path: the other node is
// told.
func (n *node) mayLeave(dir string) error {
	switch info, err := os.Stat(dir); {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: the volume's directory on this node is gone: it may be unmounted, or was removed", peer.ErrRefused)
	case err != nil:
		return err
	case !info.IsDir():
		return fmt.Errorf("%w: the volume on this node is a single file, and only directories can follow: make the directory that it is in the volume", peer.ErrRefused)
	}
	if inside, err := n.c.holdsDataDir(dir); err != nil {
		return err
	} else if inside {
		return fmt.Errorf("%w: the volume on this node has its data directory in it, with its private key", peer.ErrRefused)
	}
	return nil
}

// Images returns the runtimes that have images to hand out.
func (n *node) Images() []runtime.ImageSource {
	var sources []runtime.ImageSource
	for _, rt := range n.c.runtimes {
		if s, ok := rt.(runtime.ImageSource); ok {
			sources = append(sources, s)
		}
	}
	return sources
}
