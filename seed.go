package budgie

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/internal/ownership"
	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/peer"
	"github.com/budgiehq/budgie/replica"
)

// JoinVolume is a volume of a service that is joined.
type JoinVolume struct {
	// Target is where the container sees it.
	Target string
	// Mode says whether the container may write to it.
	Mode bunfile.VolumeMode
	// Dir is the directory of this machine that holds the copy, below the data
	// directory. It stays when the container is removed.
	Dir string
}

// SeedStep is what a [SeedProgress] tells of.
type SeedStep string

// The steps of a volume's copy. SeedDone is the last one, where the join goes
// on.
const (
	// SeedStarted: a node is asked for the volume.
	SeedStarted SeedStep = "started"
	// SeedReceiving: some of it has come, or the copy got further: see
	// [SeedProgress].Progress.
	SeedReceiving SeedStep = "receiving"
	// SeedFailed: the node did not give it. The next one, if any, is asked, and
	// what has come need not come again.
	SeedFailed SeedStep = "failed"
	// SeedKept: what was changed in the copy of an earlier replica was put aside.
	SeedKept SeedStep = "kept"
	// SeedDone: the copy is there, and verified.
	SeedDone SeedStep = "done"
)

// SeedProgress says how the copy of a volume comes to a joining machine.
type SeedProgress struct {
	// Step is what happened.
	Step SeedStep
	// Volume is what is copied, and to where.
	Volume JoinVolume
	// Node is the id of the node that it comes from, and Addr the host:port where
	// that answers.
	Node, Addr string
	// Progress is how far the copy is, as its Syncer says; zero before the first word.
	Progress replica.Progress
	// Received is how many bytes this node has sent so far, those of the protocol
	// included.
	Received int64
	// Report says what the copy consists of, at SeedDone, and what was put aside,
	// at SeedKept.
	Report replica.Report
	// Err is why it failed, at SeedFailed.
	Err error
}

// seedReportEvery is how often SeedReceiving is reported.
const seedReportEvery = 200 * time.Millisecond

// useOwnVolumes gives every volume a directory of this machine's own. Where the
// other node has it is of no concern here, and never used.
func (j *joining) useOwnVolumes(dataDir string) {
	j.plan.Volumes = nil
	for i := range j.plan.Spec.Volumes {
		v := &j.plan.Spec.Volumes[i]
		v.Source = seedDir(dataDir, j.plan.ServiceID, v.Target)
		j.plan.Volumes = append(j.plan.Volumes, JoinVolume{v.Target, v.Mode, v.Source})
	}
}

// seed copies the service's volumes, before anything of the container exists.
func (j *joining) seed(ctx context.Context, c *Client, name string, rc runConfig) error {
	if len(j.plan.Volumes) == 0 {
		return nil
	}
	foreign, err := ownership.Foreign(c.cfg.dataDir)
	if err != nil {
		return err
	}
	if foreign {
		return fmt.Errorf("%w: it has volumes, and the data directory %s belongs to another user, who could lead what root writes there elsewhere: join as that user", ErrNotAllowed, c.cfg.dataDir)
	}
	for _, v := range j.plan.Volumes {
		if err := j.seedVolume(ctx, c, name, v, rc); err != nil {
			return err
		}
	}
	return nil
}

// seedSource is a replica whose node may give the volumes.
type seedSource struct {
	*member
	id string
}

// seedSources are the replicas, the one that owns the volumes first: the others have
// copies, which may be behind. That is the one that the service began with, or one
// that somebody made the owner since. Where that one does not answer, copies of what
// it has come before what the owners before it have. Of several nodes
// that say that they run it, those come first to which its announcement leads, and
// then the rest comes last.
func (j *joining) seedSources() []seedSource {
	service := j.plan.ServiceID
	terms := make(map[string]uint64)
	var promoted, announced, claimed, others []seedSource
	for _, m := range j.members {
		c, ok := m.replica(service)
		copied := copiedTerm(c)
		switch source := (seedSource{m, c.ID}); {
		case !ok:
		case max(c.VolumesTerm, copied) > 1:
			promoted = append(promoted, source)
			// Of the same term, the owner comes before those with copies.
			terms[source.id] = 2 * max(c.VolumesTerm, copied)
			if c.VolumesTerm > copied {
				terms[source.id]++
			}
		case c.ID != service:
			others = append(others, source)
		case slices.Contains(m.announced, service):
			announced = append(announced, source)
		default:
			claimed = append(claimed, source)
		}
	}
	slices.SortStableFunc(promoted, func(a, b seedSource) int { return cmp.Compare(terms[b.id], terms[a.id]) })
	if len(announced) > 0 || len(claimed) > 1 {
		return slices.Concat(promoted, announced, others, claimed)
	}
	return slices.Concat(promoted, claimed, others)
}

// copiedTerm returns in which term those owned the volumes of which a replica has
// copies, 0 where it has none. A former owner has none, though it knows of later
// terms.
func copiedTerm(c peer.Container) uint64 {
	term := uint64(0)
	for i, v := range c.Volumes {
		switch {
		case v.Phase == lifecycle.SyncSuperseded || v.SyncedAt.IsZero():
			return 0
		case i == 0 || v.Term < term:
			term = v.Term
		}
	}
	return term
}

// seedVolume copies one volume from the first node that gives it.
func (j *joining) seedVolume(ctx context.Context, c *Client, name string, v JoinVolume, rc runConfig) error {
	tell := func(p SeedProgress) {
		if rc.onSeed != nil {
			p.Volume = v
			rc.onSeed(name, p)
		}
	}
	if err := prepareSeed(v.Dir); err != nil {
		return cannotKeep(v, err)
	}
	var errs []error
	for _, s := range j.seedSources() {
		p := SeedProgress{Step: SeedStarted, Node: s.node, Addr: s.client.Addr().String()}
		tell(p)
		p, err := receiveVolume(ctx, c.cfg.syncer, s, v.Dir, p, v.Target, rc.fullCheck, tell)
		if err == nil {
			err = finishSeed(v.Dir)
		}
		switch {
		case err == nil:
			if len(p.Report.Conflicts) > 0 {
				p.Step = SeedKept
				tell(p)
			}
			p.Step = SeedDone
			tell(p)
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("volume %s: %w", v.Target, context.Cause(ctx))
		}
		p.Step, p.Err = SeedFailed, err
		tell(p)
		if ofThisMachine(err) {
			return cannotKeep(v, err)
		}
		errs = append(errs, fmt.Errorf("node %.12s (%s): %w", p.Node, p.Addr, err))
	}
	return fmt.Errorf("volume %s: no node that runs the service gave it: see to what is said of each, and join again; what has come stays in %s, and need not come again: %w",
		v.Target, v.Dir, errors.Join(errs...))
}

// receiveVolume makes or completes a copy from one node.
func receiveVolume(ctx context.Context, syncer Syncer, s seedSource, dir string, p SeedProgress, target string, full bool, tell func(SeedProgress)) (SeedProgress, error) {
	meter := &meteredConn{last: time.Now(), tell: func(received int64) {
		p.Step, p.Received = SeedReceiving, received
		tell(p)
	}}
	further := func(now replica.Progress) {
		meter.mu.Lock()
		defer meter.mu.Unlock()
		p.Progress = now
		meter.say(time.Now())
	}
	var report replica.Report
	ctx, stop := s.whileAlive(ctx, meter.quiet)
	defer stop()
	err := s.client.ReceiveVolume(ctx, s.id, target, func(conn io.ReadWriteCloser) (err error) {
		meter.ReadWriteCloser = conn
		report, err = syncer.Receive(ctx, meter, dir, replica.ReceiveOptions{Tell: further, Full: full})
		return err
	})
	meter.mu.Lock()
	defer meter.mu.Unlock()
	p.Received, p.Report = meter.received, report
	return p, err
}

// meteredConn tells now and then how much was read.
type meteredConn struct {
	io.ReadWriteCloser
	tell func(received int64)

	mu       sync.Mutex
	received int64
	last     time.Time
	heard    time.Time
}

// quiet returns how long nothing was read.
func (m *meteredConn) quiet() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return time.Since(m.heard)
}

// Read implements io.Reader.
func (m *meteredConn) Read(b []byte) (int, error) {
	n, err := m.ReadWriteCloser.Read(b)
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	if n > 0 {
		m.received, m.heard = m.received+int64(n), now
	}
	if now.Sub(m.last) >= seedReportEvery {
		m.say(now)
	}
	return n, err
}

// say tells how much was read. The caller holds the lock.
func (m *meteredConn) say(now time.Time) {
	m.last = now
	m.tell(m.received)
}

// ofThisMachine reports whether an error is one of this machine's files, which
// no other node can mend.
func ofThisMachine(err error) bool {
	_, path := errors.AsType[*fs.PathError](err)
	_, link := errors.AsType[*os.LinkError](err)
	return path || link || errors.Is(err, errors.ErrUnsupported) || errors.Is(err, replica.ErrNames)
}

func cannotKeep(v JoinVolume, err error) error {
	return fmt.Errorf("volume %s: this machine cannot keep its copy in %s: see that there is room and that it can be written, and join again; what has come need not come again: %w", v.Target, v.Dir, err)
}
