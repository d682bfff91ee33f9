//go:build linux

package containerd

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/budgiehq/budgie/runtime"
	"github.com/containerd/containerd/v2/client"
	"github.com/opencontainers/go-digest"
)

// contentType is the type of containerd's plugin that keeps contents.
const contentType = "io.containerd.content.v1"

// openFile opens the file in which containerd keeps a blob of a size. Read from
// there, a blob costs a hundredth of the processor time that it does through
// containerd's socket. It is an error where the file cannot be had: for who may not
// read it, for a containerd that sees other files, for a store of another kind.
// Whoever gets the blob verifies its digest, as always.
func (r *Runtime) openFile(ctx context.Context, c *client.Client, d digest.Digest, size int64) (runtime.Blob, error) {
	dir, err := r.contentDir(ctx, c)
	if err != nil {
		return nil, err
	}
	// The layout of the store that containerd has (its docs/content-flow.md).
	f, err := openSized(filepath.Join(dir, "blobs", d.Algorithm().String(), d.Encoded()), os.O_RDONLY, size)
	if err != nil {
		return nil, err
	}
	return fileBlob{f, size}, nil
}

// openSized opens a regular file that has so many bytes, and nothing else.
func openSized(name string, flag int, size int64) (*os.File, error) {
	f, err := os.OpenFile(name, flag, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && (!info.Mode().IsRegular() || info.Size() != size) {
		err = fmt.Errorf("%s is %v with %d bytes instead of a file with %d", name, info.Mode().Type(), info.Size(), size)
	}
	if err != nil {
		_ = f.Close() // nothing was done with it
		return nil, err
	}
	return f, nil
}

// contentDir returns the directory of containerd's content store. A containerd
// that is started anew with another one has other files there, or none.
func (r *Runtime) contentDir(ctx context.Context, c *client.Client) (string, error) {
	if dir := r.content.Load(); dir != nil {
		return *dir, nil
	}
	found, err := c.IntrospectionService().Plugins(ctx, "type=="+contentType)
	if err != nil {
		return "", err
	}
	for _, p := range found.GetPlugins() {
		if dir := p.GetExports()["root"]; filepath.IsAbs(dir) {
			r.content.Store(&dir)
			return dir, nil
		}
	}
	return "", fmt.Errorf("containerd does not say where its plugin %s keeps its files", contentType)
}

// fileBlob is a blob in a file. containerd may delete it meanwhile: what is
// open stays.
type fileBlob struct {
	*os.File
	size int64
}

// Size implements runtime.Blob.
func (b fileBlob) Size() int64 { return b.size }
