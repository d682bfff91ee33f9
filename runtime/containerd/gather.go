//go:build linux

package containerd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/budgiehq/budgie/internal/stall"
	"github.com/budgiehq/budgie/runtime"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// mostMetadata bounds what is read into memory whole: indexes, manifests and
// configurations. Registries need not take more than 4 MiB (OCI distribution
// specification, "Pushing Manifests").
const mostMetadata = 8 << 20

// gathering is one Fetch: it puts blobs into containerd from the sources.
type gathering struct {
	store   content.Store
	guard   stall.Guard
	report  *reporter
	sources []*supply
	// layers lets layers begin.
	layers *turns
	// registry says whether the registry may be asked, and explain what to do
	// about its errors.
	registry bool
	explain  func(error) error
}

func newGathering(store content.Store, guard stall.Guard, report *reporter, from []runtime.BlobSource) *gathering {
	return &gathering{store: store, guard: guard, report: report, sources: newSupplies(from), layers: newTurns(gatheredLayers)}
}

// pardon has the sources tried again, and reports whether there is a point in it.
func (g *gathering) pardon() bool {
	hope := len(g.sources) == 0 // then it is the registry's
	for _, s := range g.sources {
		hope = s.pardon() || hope
	}
	return hope
}

// handler puts a blob into containerd before next asks the registry for it.
func (g *gathering) handler(next images.Handler) images.Handler {
	return images.HandlerFunc(func(ctx context.Context, desc ocispec.Descriptor) ([]ocispec.Descriptor, error) {
		if images.IsLayerType(desc.MediaType) {
			done, err := g.layers.begin(ctx, desc.Digest)
			if err != nil {
				return nil, err
			}
			defer done()
		}
		got, err := g.ensure(ctx, desc)
		if err != nil {
			return nil, err
		}
		if !got && !g.registry {
			return nil, g.nowhere(desc, errors.New("no registry is asked, since image.pull is never"))
		}
		children, err := next.Handle(ctx, desc)
		if err == nil && images.IsManifestType(desc.MediaType) {
			g.layers.expect(children)
		}
		if err == nil || got || ctx.Err() != nil {
			return children, err
		}
		if there, terr := content.Exists(ctx, g.store, desc); there || terr != nil {
			return nil, err
		}
		return nil, g.nowhere(desc, g.explain(err))
	})
}

// nowhere says why a blob cannot be had.
func (g *gathering) nowhere(desc ocispec.Descriptor, registry error) error {
	lacking := true
	var reasons []error
	for _, s := range g.sources {
		err := s.why(desc.Digest.String())
		lacking = lacking && errors.Is(err, runtime.ErrNoBlob)
		reasons = append(reasons, err)
	}
	err := errors.Join(append(reasons, registry)...)
	switch {
	case !lacking:
		return fmt.Errorf("get %s: %w", desc.Digest, err)
	case images.IsLayerType(desc.MediaType):
		return fmt.Errorf("layer %s is %w of any source (%s): %w", desc.Digest, runtime.ErrNoBlob, discarded, err)
	}
	return fmt.Errorf("%s is %w of any source: %w", desc.Digest, runtime.ErrNoBlob, err)
}

// acceptable looks at what is only claimed of a blob so far.
func acceptable(desc ocispec.Descriptor) error {
	if err := desc.Digest.Validate(); err != nil {
		return fmt.Errorf("digest %q: %w", desc.Digest, err)
	}
	if desc.Size <= 0 || !images.IsLayerType(desc.MediaType) && desc.Size > mostMetadata {
		return fmt.Errorf("%s of type %q has %d bytes, which is not accepted", desc.Digest, desc.MediaType, desc.Size)
	}
	return nil
}

// ensure puts a blob into containerd, if it is not there. It reports false if no
// source has it: what has arrived is kept then, for whoever does. Its errors are
// those of containerd and the end of ctx.
func (g *gathering) ensure(ctx context.Context, desc ocispec.Descriptor) (bool, error) {
	if err := acceptable(desc); err != nil {
		return false, err
	}
	for alone := false; ; {
		used, resumed, err := g.attempt(ctx, desc, alone)
		switch {
		case err == nil:
			return true, nil
		case ctx.Err() != nil:
			return false, context.Cause(ctx)
		case errors.Is(err, content.ErrReset):
			continue
		case errors.Is(err, errNobody) && !alone:
			return false, nil
		case !errors.Is(err, errNobody) && !errors.Is(err, errCorrupt):
			return false, err
		}
		// What is there is not the blob, or a part of which nobody knows whose it
		// is: it is fetched anew, from one source at a time.
		if err := gone(g.store.Abort(ctx, remotes.MakeRefKey(ctx, desc))); err != nil {
			return false, err
		}
		if errors.Is(err, errCorrupt) && len(used) == 1 && !resumed {
			used[0].ban()
		}
		if alone && len(g.usable(desc)) == 0 {
			return false, nil
		}
		alone = alone || len(used) > 1
	}
}

var (
	errNobody  = errors.New("no source has all of it")
	errCorrupt = errors.New("it does not have its digest")
)

// attempt writes what is missing of a blob, from all sources or from one alone,
// and returns who brought something. resumed says that something was there.
func (g *gathering) attempt(ctx context.Context, desc ocispec.Descriptor, alone bool) (used []*supply, resumed bool, _ error) {
	w, err := content.OpenWriter(ctx, g.store, content.WithRef(remotes.MakeRefKey(ctx, desc)), content.WithDescriptor(desc))
	if errdefs.IsAlreadyExists(err) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	defer w.Close()
	status, err := w.Status()
	if err != nil {
		return nil, false, err
	}
	id, offset := desc.Digest.String(), status.Offset
	resumed = offset > 0
	blob := runtime.Descriptor{MediaType: desc.MediaType, Digest: id, Size: desc.Size}
	for offset < desc.Size {
		sources := g.choose(desc, alone)
		if len(sources) == 0 || alone && len(used) > 0 {
			return used, resumed, errNobody
		}
		at := offset
		n, by, err := readStriped(ctx, g.guard, blob, offset, sources, func(p []byte) error {
			if _, err := w.Write(p); err != nil {
				return err
			}
			at += int64(len(p))
			g.report.arrived(id, at)
			return nil
		})
		for _, s := range by {
			if !slices.Contains(used, s) {
				used = append(used, s)
			}
		}
		if offset = n; err != nil {
			return used, resumed, err
		}
	}
	err = w.Commit(ctx, desc.Size, desc.Digest)
	if errdefs.IsFailedPrecondition(err) {
		return used, resumed, fmt.Errorf("%w: %w", errCorrupt, err)
	}
	if errdefs.IsAlreadyExists(err) {
		err = nil
	}
	return used, resumed, err
}

// usable returns the sources of which there is hope.
func (g *gathering) usable(desc ocispec.Descriptor) []*supply {
	return slices.DeleteFunc(slices.Clone(g.sources), func(s *supply) bool { return !s.usable(desc.Digest.String()) })
}

// choose returns the sources to ask next: all that can be read in ranges, or
// one, which is the one that has the least to do.
func (g *gathering) choose(desc ocispec.Descriptor, alone bool) []*supply {
	all := g.usable(desc)
	if quick := slices.DeleteFunc(slices.Clone(all), (*supply).aside); len(quick) > 0 {
		all = quick
	}
	ranged := slices.DeleteFunc(slices.Clone(all), func(s *supply) bool { return !s.ranged() })
	if len(ranged) > 0 && !alone {
		return ranged
	}
	if len(all) == 0 {
		return nil
	}
	return []*supply{slices.MinFunc(all, func(a, b *supply) int { return cmp.Compare(a.load(), b.load()) })}
}
