package budgie

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/peer"
	"github.com/budgiehq/budgie/runtime"
	"github.com/budgiehq/budgie/store"
)

// JoinPlan is what a join would do, or is about to do.
type JoinPlan struct {
	// ServiceID is the service that gets another replica.
	ServiceID string
	// Spec is the specification as it would run on this machine.
	Spec bunfile.Spec
	// Runtime is the name of the runtime that would run it.
	Runtime string
	// Replicas are the service's replicas that were heard of in the short while that
	// a join listens and that proved to be in the flock, the one whose specification
	// this is first. There may be more.
	Replicas []JoinReplica
	// Volumes are the service's volumes and where this machine's copies of them
	// are; Spec has the same directories. Each copy is made before the replica is
	// created, and then follows what the volume's owner writes.
	Volumes []JoinVolume
	// ImageDigest is the image that the first of Replicas runs; empty for a
	// command of the machine.
	ImageDigest string
}

// JoinReplica is a replica of another node.
type JoinReplica struct {
	// ID of the replica.
	ID string
	// Node is the id of its node.
	Node string
	// Addr is the host:port at which the node's endpoint answered.
	Addr string
}

// Join runs another replica of a service that other nodes of the flock run, on
// this machine, and returns when it is ready, as [Client.Run] does, with the same
// options. ref is the name of one of its replicas, or the beginning of the id of
// a replica or of the service.
//
// Only nodes that prove to be in this machine's flock are asked for anything:
// the specification comes from one that runs the replica, the image from all
// that have it, and from its registry where none can give it. Afterwards the new
// replica needs none of them. It has an id of its own and carries the service's.
//
// Volumes come from the node that owns them, that of the service's first replica
// unless another one was promoted ([Client.Promote]), where it answers within a
// second or two, else from the first other one that gives them, into directories of this machine's own below the data directory,
// and are verified before anything of the replica is created. See [OnSeed] and
// [JoinPlan]. From then on they follow what is written at the owner, for as long as
// the replica is kept: [lifecycle.Container].Volumes and [Client.VolumeStatus] say
// how far they are behind. What is written into a copy is set aside and reported;
// one node writes, the others read. A join that fails leaves what has come of
// volumes, and the next one goes on from there.
//
// The errors are [ErrNotFound] where no node of the flock runs what ref means,
// [ErrAmbiguous] where it means several services, [ErrNotTrusted] where nodes
// that announce it do not prove to be in the flock, [ErrJoined] where this
// machine runs a replica of it, [ErrReplicas] where the service has as many as
// its replicas.max allows, [ErrNoOwner] where only a former owner of its volumes
// has them, and [ErrNotAllowed] where what would run is a command
// of this machine and [AllowProcess] was not given, or where it has volumes, this
// program is root's, and the data directory another user's.
func (c *Client) Join(ctx context.Context, ref string, opts ...RunOption) (lifecycle.Container, error) {
	rec, err := c.join(ctx, ref, opts)
	if err != nil {
		return lifecycle.Container{}, fmt.Errorf("join %.80s: %w", ref, err)
	}
	return rec, nil
}

func (c *Client) join(ctx context.Context, ref string, opts []RunOption) (lifecycle.Container, error) {
	j, err := c.planJoin(ctx, ref, opts)
	if err != nil {
		return lifecycle.Container{}, err
	}
	defer j.close()
	rc := newRunConfig(j.plan.Spec, opts)
	if rc.onJoin != nil {
		rc.onJoin(j.plan)
	}
	rc.join = j
	rec, err := c.run(ctx, j.plan.Spec, rc)
	if err == nil {
		rec, err = c.awaitRoom(ctx, rec)
	}
	if err != nil {
		// What there is to say of the replica, its log included, is in the error.
		return lifecycle.Container{}, errors.Join(j.explain(c, err), c.takeBack(ctx, j.id))
	}
	return rec, nil
}

// PlanJoin returns what [Client.Join] would do with the same arguments, or the
// error by which it would refuse. It changes nothing.
func (c *Client) PlanJoin(ctx context.Context, ref string, opts ...RunOption) (JoinPlan, error) {
	j, err := c.planJoin(ctx, ref, opts)
	if err != nil {
		return JoinPlan{}, fmt.Errorf("join %.80s: %w", ref, err)
	}
	j.close()
	return j.plan, nil
}

// joining is a join under way.
type joining struct {
	plan JoinPlan
	// members are the nodes of the flock that were found, those that run the
	// service first.
	members []*member
	// flock is the one that this machine is in.
	flock string
	// id is the new replica's, empty before it has one.
	id string
	// release gives back the service, of which no other join on this machine may
	// make a replica; nil while it is not taken.
	release func() error
}

// explain says that this machine is in another flock than when the join began, which
// cut its connections, if it is.
func (j *joining) explain(c *Client, err error) error {
	if _, flock, flockErr := c.membership(); flockErr == nil && flock != j.flock {
		return fmt.Errorf("this machine's token was changed while it joined, which ended its connections: %w", err)
	}
	return err
}

func (j *joining) close() {
	if j.release != nil {
		_ = j.release() // the end of the process does it, too
	}
	for _, m := range j.members {
		m.close()
	}
}

// planJoin finds out what is to be joined and whether it can be.
func (c *Client) planJoin(ctx context.Context, ref string, opts []RunOption) (_ *joining, err error) {
	if ref == "" {
		return nil, errors.New("the name of the service is empty")
	}
	if err := c.notOwn(ctx, ref); err != nil {
		return nil, err
	}
	_, flock, err := c.membership()
	if err != nil {
		return nil, err
	}
	members, unproved, err := c.findMembers(ctx, ref)
	if err != nil {
		return nil, c.withPeerProblems(err)
	}
	j := &joining{members: members, flock: flock}
	defer func() {
		if err != nil {
			j.close()
		}
	}()
	service, err := meant(members, ref)
	if errors.Is(err, ErrNotFound) && unproved != nil {
		err = unproved
	}
	if err != nil {
		return nil, c.withPeerProblems(err)
	}
	j.plan.ServiceID = service
	j.order()
	if err := c.notJoined(ctx, service); err != nil {
		return nil, err
	}
	first, err := j.fetchSpec(ctx)
	if err != nil {
		return nil, err
	}
	if err := j.findOwner(ctx, c); err != nil {
		return nil, err
	}
	return j, c.checkJoin(ctx, j, first, newRunConfig(j.plan.Spec, opts))
}

// checkJoin decides whether a specification from another node may run here, and
// how.
func (c *Client) checkJoin(ctx context.Context, j *joining, first peer.Container, rc runConfig) error {
	spec := &j.plan.Spec
	if most := spec.Replicas.Max; most > 0 && len(j.plan.Replicas) >= most {
		return fmt.Errorf("%w: %d run, and replicas.max is %d", ErrReplicas, len(j.plan.Replicas), most)
	}
	if err := c.nameFree(ctx, cmp.Or(rc.name, spec.Name)); err != nil {
		return err
	}
	j.useOwnVolumes(c.cfg.dataDir)
	if spec.Image.DockerImage == "" && !rc.allowProcess {
		return fmt.Errorf("%w: it is not an image but a command of the machine, %q, that another node names: allow that explicitly (budgie chirp -allow-process, or AllowProcess)",
			ErrNotAllowed, strings.Join(spec.Image.Command, " "))
	}
	rt, err := c.chooseRuntime(ctx, *spec, rc.runtime)
	if err != nil {
		return err
	}
	j.plan.Runtime, j.plan.ImageDigest = rt.Name(), first.ImageDigest
	return c.portsFree(ctx, *spec)
}

// portsFree refuses host ports that are taken, before anything is fetched for
// nothing. What decides is the publication, when the container starts.
func (c *Client) portsFree(ctx context.Context, spec bunfile.Spec) error {
	for _, port := range spec.Ports {
		var socket io.Closer
		var err error
		addr := net.JoinHostPort(c.cfg.bind, strconv.Itoa(port.HostPort))
		switch {
		case port.HostPort == 0:
			continue
		case port.Protocol == bunfile.UDP:
			socket, err = listenUDP(ctx, addr)
		default:
			socket, err = listenTCP(ctx, addr)
		}
		if err != nil {
			return fmt.Errorf("host port %s %w", portWord(port), explainListen(err, "host_port"))
		}
		_ = socket.Close() // nothing came in
	}
	return nil
}

// notOwn refuses what this machine runs itself.
func (c *Client) notOwn(ctx context.Context, ref string) error {
	return c.noneRuns(ctx, func(rec lifecycle.Container) error {
		if len(ref) >= minIDPrefix && strings.HasPrefix(rec.ID, ref) {
			return fmt.Errorf("%w: %s (%s) is a container of this machine", ErrJoined, rec.Name, rec.ShortID())
		}
		return nil
	})
}

// notJoined refuses a second replica of a service on this machine.
func (c *Client) notJoined(ctx context.Context, service string) error {
	return c.noneRuns(ctx, func(rec lifecycle.Container) error {
		if rec.ServiceID == service {
			return fmt.Errorf("%w: %s (%s) is its replica on this machine", ErrJoined, rec.Name, rec.ShortID())
		}
		return nil
	})
}

// nameFree refuses a name that is taken, before anything is fetched for nothing.
// What decides is the store, when the container is inserted.
func (c *Client) nameFree(ctx context.Context, name string) error {
	return c.noneRuns(ctx, func(rec lifecycle.Container) error {
		if rec.Name == name {
			return fmt.Errorf("%w: %s (%s): stop it, or choose another name (budgie chirp -name, or Named)", ErrExists, rec.Name, rec.ShortID())
		}
		return nil
	})
}

// noneRuns returns the first objection to a container that has not ended for good.
func (c *Client) noneRuns(ctx context.Context, objection func(lifecycle.Container) error) error {
	recs, err := c.store.List(ctx)
	if err != nil {
		return err
	}
	for _, rec := range recs {
		if rec.Finished() {
			continue
		}
		if err := objection(rec); err != nil {
			return err
		}
	}
	return nil
}

// meant returns the id of the one service that ref means, by what the nodes
// themselves say: a name counts more than the beginning of an id.
func meant(members []*member, ref string) (service string, err error) {
	for _, match := range []func(peer.Container) bool{
		func(c peer.Container) bool { return c.Name == ref || c.ID == ref || c.ServiceID == ref },
		func(c peer.Container) bool {
			return strings.HasPrefix(c.ID, strings.ToLower(ref)) || strings.HasPrefix(c.ServiceID, strings.ToLower(ref))
		},
	} {
		var services, words []string
		for _, m := range members {
			for _, c := range m.containers {
				if match(c) && !slices.Contains(services, c.ServiceID) {
					services = append(services, c.ServiceID)
					words = append(words, fmt.Sprintf("%s (%.12s on node %.12s)", c.Name, c.ID, c.Node))
				}
			}
		}
		switch {
		case len(services) == 1:
			return services[0], nil
		case len(services) > 1:
			return "", fmt.Errorf("%w: it fits %s: give more of an id", ErrAmbiguous, someOf(words))
		}
	}
	return "", fmt.Errorf("%w: the nodes of the flock that announced it do not run it any more", ErrNotFound)
}

// order puts the members that run the service first, those with a replica that
// serves before the others, and lists the replicas.
func (j *joining) order() {
	rank := func(m *member) int {
		switch c, ok := m.replica(j.plan.ServiceID); {
		case !ok:
			return 2
		case !c.Ready:
			return 1
		}
		return 0
	}
	slices.SortStableFunc(j.members, func(a, b *member) int { return rank(a) - rank(b) })
	for _, m := range j.members {
		c, ok := m.replica(j.plan.ServiceID)
		known := slices.ContainsFunc(j.plan.Replicas, func(r JoinReplica) bool { return r.ID == c.ID })
		if ok && !known {
			j.plan.Replicas = append(j.plan.Replicas, JoinReplica{ID: c.ID, Node: c.Node, Addr: m.client.Addr().String()})
		}
	}
}

// fetchSpec fetches the service's specification from the first node that gives
// it, and returns the replica that it is of.
func (j *joining) fetchSpec(ctx context.Context) (peer.Container, error) {
	var errs []error
	for _, m := range j.members {
		c, ok := m.replica(j.plan.ServiceID)
		if !ok {
			continue
		}
		spec, err := m.spec(ctx, c.ID)
		if err == nil {
			j.plan.Spec = spec
			first := slices.IndexFunc(j.plan.Replicas, func(r JoinReplica) bool { return r.ID == c.ID })
			j.plan.Replicas[0], j.plan.Replicas[first] = j.plan.Replicas[first], j.plan.Replicas[0]
			return c, nil
		}
		errs = append(errs, fmt.Errorf("specification of %.12s from node %.12s (%s): %w", c.ID, c.Node, m.client.Addr(), err))
	}
	return peer.Container{}, someErrors(errs)
}

// take takes the service for this join until close.
func (j *joining) take(ctx context.Context, c *Client, name string) (err error) {
	j.release, err = c.store.Acquire(ctx, "join-"+j.plan.ServiceID[:32])
	if errors.Is(err, store.ErrOwned) {
		return fmt.Errorf("%w: another join of the service is under way on this machine", ErrJoined)
	}
	if err == nil {
		err = c.notJoined(ctx, j.plan.ServiceID) // by a join that ended just now
	}
	if err == nil {
		err = c.nameFree(ctx, name)
	}
	return err
}

// fetch makes ready what the replica needs: its image, and its volumes as late
// as can be.
func (j *joining) fetch(ctx context.Context, c *Client, rt Runtime, spec bunfile.Spec, rc runConfig) (digest string, err error) {
	if err := j.take(ctx, c, spec.Name); err != nil {
		return "", err
	}
	digest, err = j.fetchImage(ctx, rt, spec, rc)
	if err == nil {
		err = j.seed(ctx, c, spec.Name, rc)
	}
	return digest, err
}

// fetchImage makes the image of the replica ready: from the members that have
// it, else from its registry.
func (j *joining) fetchImage(ctx context.Context, rt Runtime, spec bunfile.Spec, rc runConfig) (digest string, err error) {
	sink, ok := rt.(runtime.ImageSink)
	if !ok || spec.Image.DockerImage == "" {
		return pullImage(ctx, rt, spec, rc)
	}
	var root runtime.Descriptor
	var sources []runtime.BlobSource
	var errs []error
	for _, m := range j.members {
		had, err := m.image(ctx, spec.Image.DockerImage, j.plan.ImageDigest)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("node %.12s (%s): %w", m.node, m.client.Addr(), err))
		case root.Digest == "" || root.Digest == had.Digest:
			root = had
			sources = append(sources, m.client.Blobs(spec.Image.DockerImage))
		}
	}
	report := func(e runtime.PullProgress) {
		if rc.onPull != nil {
			rc.onPull(spec.Name, e)
		}
	}
	if len(sources) > 0 {
		return sink.Fetch(ctx, spec.Image, root, sources, report)
	}
	digest, err = pullImage(ctx, rt, spec, rc)
	if err != nil {
		return "", errors.Join(append([]error{fmt.Errorf("no node of the flock gave the image %s, and neither did its registry: %w", spec.Image.DockerImage, err)}, errs...)...)
	}
	return digest, nil
}

// joinFind is how long a join waits for the first answer, and joinSettle for
// further ones after that.
const (
	joinFind   = 4 * time.Second
	joinSettle = 300 * time.Millisecond
)
