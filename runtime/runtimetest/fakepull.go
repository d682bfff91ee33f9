package runtimetest

import (
	"context"
	"fmt"
	"maps"

	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/runtime"
)

// Pull makes up an image of any name, of one layer, and remembers that it is
// there. The same name gives the same image.
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
	root, there := f.world.images[name]
	f.world.mu.Unlock()
	switch {
	case there && image.Pull != bunfile.PullAlways:
		report(runtime.PullProgress{Image: name, Step: runtime.PullPresent})
		return root.Digest, nil
	case image.Pull == bunfile.PullNever:
		return "", f.errorf("pull", "", fmt.Errorf("image %s is not here, and image.pull is never", name))
	}
	root, blobs := madeUp(name)
	f.world.mu.Lock()
	f.world.images[name] = root
	maps.Copy(f.world.blobs, blobs)
	f.world.mu.Unlock()
	blob := layerOf(blobs[root.Digest])
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
	return root.Digest, nil
}
