//go:build linux

package containerd

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/internal/stall"
	"github.com/budgiehq/budgie/runtime"
	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/errdefs"
)

const (
	// partsKeptFor is how long containerd keeps the parts of a pull that failed
	// or was killed, for the next one to go on from.
	partsKeptFor = 24 * time.Hour
	// leaseMargin is what the lease of such parts must have left for a pull to
	// go on from them.
	leaseMargin = 6 * time.Hour
	// parallelLayers is how many layers are fetched at the same time.
	parallelLayers = 3
	// idleRetries is how often in a row a transfer that had begun is tried again
	// although nothing more arrived, and retryPause how long to wait before each.
	idleRetries = 3
	retryPause  = time.Second
)

// Pull makes an image ready to run: see [runtime.Puller].
func (r *Runtime) Pull(ctx context.Context, image bunfile.Image, report func(runtime.PullProgress)) (string, error) {
	ctx, done, err := r.enter(ctx, "pull", "")
	if err != nil {
		return "", err
	}
	c, err := r.client(ctx)
	if err != nil {
		return "", done(err)
	}
	img, err := r.image(ctx, c, runtime.Config{Spec: bunfile.Spec{Image: image}}, report)
	if err != nil {
		return "", done(err)
	}
	return img.Target().Digest.String(), done(nil)
}

// origin is where a pull gets an image from.
type origin struct {
	// name is that of the image record that the pull makes.
	name     string
	resolver remotes.Resolver
	// wrap, which may be nil, is put around what fetches the parts from resolver.
	wrap func(images.Handler) images.Handler
	// again, which may be nil, is asked whether to try a transfer again.
	again func() bool
	// explain says what to do about a failure, and lasting whether what arrived
	// before it is of use.
	explain func(error) error
	lasting func(error) bool
}

// registry is the registry that an image's name says.
func (r *Runtime) registry(ctx context.Context, name string, report *reporter) origin {
	reg := r.newRegistries(report.read)
	return origin{
		name: name, resolver: reg.resolver(ctx, r.registryDirs), lasting: broken,
		explain: func(err error) error { return r.explainPull(name, reg, err) },
	}
}

// alone calls f while no other program of this machine fetches an image: they
// would share its parts, and the first that is ready would release them.
func (r *Runtime) alone(ctx context.Context, name string, f func() (client.Image, error)) (client.Image, error) {
	if err := os.MkdirAll(runDir, 0o711); err != nil {
		return nil, err
	}
	key := sha256.Sum256([]byte(r.address + "\x00" + r.namespace + "\x00" + name))
	release, err := lockOnce(ctx, filepath.Join(runDir, fmt.Sprintf("pull-%x.lock", key)))
	if err != nil {
		return nil, err
	}
	defer release()
	return f()
}

// pullAlone pulls an image while no other program of this machine does.
func (r *Runtime) pullAlone(ctx context.Context, c *client.Client, name string, cfg runtime.Config, report *reporter) (client.Image, error) {
	return r.alone(ctx, name, func() (client.Image, error) {
		if cfg.Spec.Image.Pull != bunfile.PullAlways {
			// Another program may have pulled it just now.
			if img, err := r.local(ctx, c, name, cfg); img != nil || err != nil {
				return img, err
			}
		}
		report.resolving()
		return r.pull(ctx, c, name, r.registry(ctx, name, report), report)
	})
}

// pull fetches an image and unpacks it. A transfer that breaks off is taken up
// again where it was, now or by the next pull of the name; from a registry that does not
// send the rest of something, anew.
func (r *Runtime) pull(ctx context.Context, c *client.Client, name string, from origin, report *reporter) (client.Image, error) {
	img, err := r.pullOnce(ctx, c, name, from, report)
	if s, ok := unexpectedStatus(err); ok && s.StatusCode == http.StatusRequestedRangeNotSatisfiable && ctx.Err() == nil {
		report.retrying(err)
		img, err = r.pullOnce(ctx, c, name, from, report)
	}
	return img, err
}

func (r *Runtime) pullOnce(ctx context.Context, c *client.Client, name string, from origin, report *reporter) (client.Image, error) {
	lease, found, err := partsLease(ctx, c, name)
	if err != nil {
		return nil, err
	}
	img, err := r.transfer(leases.WithLease(ctx, lease.ID), c, from, report)
	parts := found || report.reached() > 0
	if err != nil && parts && (ctx.Err() != nil || from.lasting(err)) {
		return nil, kept(from.explain(err))
	}
	actx, cancel := afterwards(ctx)
	defer cancel()
	var opts []leases.DeleteOpt
	if err != nil {
		opts = append(opts, leases.SynchronousDelete) // nothing bad of it is taken up again
	}
	if derr := gone(c.LeasesService().Delete(actx, lease, opts...)); derr != nil {
		r.log.Warn("cannot release the parts of a pull; containerd does so later", "image", name, "error", derr)
	}
	return img, from.explain(err)
}

// transfer pulls, and goes on where a transfer broke off, as long as that brings
// something.
func (r *Runtime) transfer(ctx context.Context, c *client.Client, from origin, report *reporter) (client.Image, error) {
	wrap := func(next images.Handler) images.Handler {
		if from.wrap != nil {
			next = from.wrap(next)
		}
		return refuseForeign(c.ContentStore())(report.handler(c.ContentStore(), next))
	}
	for idle := 0; ; {
		before := report.reached()
		img, err := c.Pull(ctx, from.name,
			client.WithResolver(from.resolver),
			client.WithPullUnpack,
			// Also what is unpacked already: others may want to have the image from here.
			client.WithUnpackOpts([]client.UnpackOpt{client.WithUnpackFetchAllContent()}),
			client.WithPullSnapshotter(snapshotter),
			client.WithMaxConcurrentDownloads(parallelLayers),
			client.WithImageHandlerWrapper(wrap))
		if err == nil || ctx.Err() != nil || !broken(err) || errors.Is(err, runtime.ErrNoBlob) || report.reached() == 0 {
			return img, err
		}
		if idle++; report.reached() > before {
			idle = 0
		}
		if idle > idleRetries || idle > 0 && errors.Is(err, stall.ErrStalled) || from.again != nil && !from.again() {
			return nil, err
		}
		report.retrying(err)
		if pause(ctx, time.Duration(idle)*retryPause); ctx.Err() != nil {
			return nil, err
		}
	}
}

// partsLease returns the lease that holds the parts of an image while it is
// pulled, and until it is pulled wholly or partsKeptFor is over.
// found says that it was there already.
func partsLease(ctx context.Context, c *client.Client, name string) (_ leases.Lease, found bool, _ error) {
	id := fmt.Sprintf("%s%x", pullLease, sha256.Sum256([]byte(name)))
	service := c.LeasesService()
	has, err := service.List(ctx, "id=="+id)
	if err != nil {
		return leases.Lease{}, false, err
	}
	for _, l := range has {
		if l.ID != id {
			continue
		}
		if expires, err := time.Parse(time.RFC3339, l.Labels["containerd.io/gc.expire"]); err == nil && time.Until(expires) > leaseMargin {
			return l, true, nil
		}
		if err := gone(service.Delete(ctx, l, leases.SynchronousDelete)); err != nil {
			return leases.Lease{}, false, err
		}
	}
	lease, err := service.Create(ctx, leases.WithID(id), leases.WithExpiration(partsKeptFor))
	if errdefs.IsAlreadyExists(err) {
		return leases.Lease{ID: id}, true, nil // another program pulls it, too
	}
	return lease, false, err
}

// pullLease is how the names of leases begin that hold parts of images.
const pullLease = "budgie-pull-"

// broken reports whether a transfer failed on the way, so that what arrived is
// of use and the rest may well come later.
func broken(err error) bool {
	if s, ok := unexpectedStatus(err); ok {
		return s.StatusCode >= 500 || s.StatusCode == http.StatusTooManyRequests
	}
	// Every failed request is a net.Error, also where what came back was refused:
	// a certificate, or too many redirects. What counts is why it failed.
	if request, ok := errors.AsType[*url.Error](err); ok && !request.Timeout() {
		err = request.Err
	}
	failed, network := errors.AsType[net.Error](err)
	if _, file := failed.(syscall.Errno); file { // it is one by its methods alone, also where a file could not be written
		network = false
	}
	return network || errors.Is(err, stall.ErrStalled) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) ||
		errors.Is(err, syscall.ECONNRESET)
}

// fullDisk reports whether there was no room. containerd's errors come as text.
func fullDisk(err error) bool {
	return err != nil && (errors.Is(err, syscall.ENOSPC) || strings.Contains(err.Error(), syscall.ENOSPC.Error()))
}

// explainPull says what to do about a failed pull.
func (r *Runtime) explainPull(name string, reg *registries, err error) error {
	domain := domainOf(name)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrPlatform), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case fullDisk(err):
		return fmt.Errorf("the disk on which containerd keeps images is full: make room, for example with \"ctr -n %s images rm\" of images that are not needed: %w", r.namespace, err)
	case wantsLogin(err):
		return fmt.Errorf("the registry %s wants a login, or does not have it; %s: %w", domain, reg.loginState(), err)
	case errdefs.IsNotFound(err):
		return fmt.Errorf("the registry %s does not have it; check its name and tag: %w", domain, err)
	case errors.Is(err, stall.ErrStalled):
		return fmt.Errorf("the transfer from %s was given up, since too little arrived: %w", domain, err)
	}
	if unknown, ok := errors.AsType[*net.DNSError](err); ok {
		return fmt.Errorf("the name of the registry %s cannot be looked up: check the name of the image, and this machine's DNS: %w", domain, unknown)
	}
	if dial, ok := errors.AsType[*net.OpError](err); ok && dial.Op == "dial" {
		return fmt.Errorf("the registry %s cannot be reached: see whether it runs, and whether a firewall or a proxy is in the way: %w", domain, dial)
	}
	return fmt.Errorf("pull it from %s: %w", domain, err)
}

// kept says that what arrived before a failure is of use.
func kept(err error) error {
	return fmt.Errorf("%w (what has arrived is kept for %.0f hours, and the next pull goes on from there)", err, partsKeptFor.Hours())
}
