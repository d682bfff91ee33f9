package runtimetest

import (
	"context"
	"crypto/sha256"
	"fmt"

	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/runtime"
)

// fakeLayer is the size of an image's only layer.
const fakeLayer = 1 << 20

// Pull makes up an image of any name, of one layer, and remembers that it is
// there. Its digest is that of its name.
func (f *Fake) Pull(ctx context.Context, image bunfile.Image, report func(runtime.PullProgress)) (string, error) {
	_, done, err := f.enter(ctx, "pull", "")
	if err != nil {
		return "", err
	}
	defer done()
	if report == nil {
		report = func(runtime.PullProgress) {}
	}
	name := image.DockerImage
	f.world.mu.Lock()
	there := f.world.images[name]
	if !there && image.Pull != bunfile.PullNever {
		f.world.images[name] = true
	}
	f.world.mu.Unlock()
	digest := fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(name)))
	switch {
	case there && image.Pull != bunfile.PullAlways:
		report(runtime.PullProgress{Image: name, Step: runtime.PullPresent})
		return digest, nil
	case image.Pull == bunfile.PullNever:
		return "", f.errorf("pull", "", fmt.Errorf("image %s is not here, and image.pull is never", name))
	}
	blob := fmt.Sprintf("sha256:%x", sha256.Sum256([]byte("layer of "+name)))
	for _, e := range []runtime.PullProgress{
		{Step: runtime.PullResolving},
		{Step: runtime.PullFetching, Blob: blob, Total: fakeLayer},
		{Step: runtime.PullFetching, Blob: blob, Offset: fakeLayer / 2, Total: fakeLayer},
		{Step: runtime.PullFetched, Blob: blob, Offset: fakeLayer, Total: fakeLayer},
		{Step: runtime.PullUnpacking},
		{Step: runtime.PullDone},
	} {
		e.Image = name
		report(e)
	}
	return digest, nil
}
