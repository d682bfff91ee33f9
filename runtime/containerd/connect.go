//go:build linux

package containerd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os/exec"
	"syscall"

	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/runtime"
	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/errdefs"
	"google.golang.org/grpc"
)

// Supports refuses specifications without an image, and all of them where
// containerd cannot be reached: the error says how to mend that.
func (r *Runtime) Supports(ctx context.Context, spec bunfile.Spec) error {
	ctx, done, err := r.enter(ctx, "supports", "")
	if err != nil {
		return err
	}
	err = supports(spec)
	if err == nil {
		err = reach(ctx, r.address)
	}
	return done(err)
}

func supports(spec bunfile.Spec) error {
	if spec.Image.DockerImage == "" {
		return fmt.Errorf("%w: there is no image.docker_image to run; a command of this machine needs the process runtime", runtime.ErrUnsupported)
	}
	_, err := normalise(spec.Image.DockerImage)
	return err
}

// reach finds out whether somebody listens on a socket, and explains it if not.
func reach(ctx context.Context, address string) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", address)
	if err == nil {
		return conn.Close()
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	_, notFound := exec.LookPath("containerd")
	switch {
	case errors.Is(err, fs.ErrPermission):
		return unavailable(err, "no permission to use containerd at %s: run this as root, for example with sudo", address)
	case errors.Is(err, fs.ErrNotExist) && notFound != nil:
		return unavailable(err, "containerd is not installed (there is no %s): install it, on Debian and Ubuntu with \"sudo apt-get install containerd runc containernetworking-plugins\"", address)
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return unavailable(err, "containerd is not running (nobody listens on %s): start it with \"sudo systemctl start containerd\", or name its socket in CONTAINERD_ADDRESS", address)
	}
	return unavailable(err, "cannot reach containerd: %v", err)
}

// unavailable is a runtime.ErrUnavailable whose text is for people alone.
func unavailable(cause error, format string, args ...any) error {
	return &unavailableError{fmt.Sprintf(format, args...), cause}
}

type unavailableError struct {
	text  string
	cause error
}

// Error implements error.
func (e *unavailableError) Error() string { return e.text }

// Is says which sentinels it is.
func (e *unavailableError) Is(target error) bool {
	return target == runtime.ErrUnavailable || target == runtime.ErrUnsupported
}

// Unwrap returns what the system said.
func (e *unavailableError) Unwrap() error { return e.cause }

// client returns the connection, which is made when it is first needed. Then
// what dead programs left half done is cleaned up.
func (r *Runtime) client(ctx context.Context) (*client.Client, error) {
	unlock, err := r.refs.Lock(ctx, "")
	if err != nil {
		return nil, err
	}
	defer unlock()
	r.mu.Lock()
	c := r.conn
	r.mu.Unlock()
	if c != nil {
		return c, r.awaken(ctx, c.Conn())
	}
	if err := reach(ctx, r.address); err != nil {
		return nil, err
	}
	store := &contentStore{rt: r}
	c, err = client.New(r.address, client.WithDefaultNamespace(r.namespace),
		client.WithServices(client.WithContentStore(store)),
		client.WithExtraDialOpts([]grpc.DialOption{grpc.WithChainUnaryInterceptor(r.watchCalls)}))
	if err != nil {
		return nil, fmt.Errorf("connect to containerd: %w", err)
	}
	store.connected(c)
	if err := r.sweepDead(ctx, c); err != nil {
		return nil, errors.Join(fmt.Errorf("clean up after a program that was killed: %w", err), c.Close())
	}
	r.mu.Lock()
	r.conn = c
	r.mu.Unlock()
	return c, nil
}

// gone turns the absence of something that is to go into success.
func gone(err error) error {
	if errdefs.IsNotFound(err) {
		return nil
	}
	return err
}
