package peer

import (
	"context"
	"errors"
	"iter"
	"net/netip"

	"github.com/budgiehq/budgie/runtime"
	"github.com/budgiehq/budgie/trust"
)

// ClientOption changes how a Client works.
type ClientOption func(*Client)

// Client talks to the endpoint of one other node. It is made by [NewClient],
// and connects when it has to, again where the connection was lost. All methods
// may be called concurrently.
//
// Errors say which node they are of. They are those of this package, of package
// trust, of the context, or of the network.
type Client struct {
	flock *trust.Flock
	node  string
	addrs []netip.AddrPort
}

// NewClient returns a client for the node with an id, which must prove that it
// is that one, at one of the addresses. An empty id stands for any member of the
// flock, as at an address that somebody typed in; whoever answers first is the
// node that must answer from then on. Link-local addresses need their zone.
// Nothing is sent yet.
func NewClient(f *trust.Flock, node string, addrs []netip.AddrPort, opts ...ClientOption) *Client {
	c := &Client{flock: f, node: node, addrs: addrs}
	for _, o := range opts {
		o(c)
	}
	return c
}

// Connect makes sure that there is a connection, on which both sides have
// accepted each other, and returns who is there. The addresses are tried side by
// side, so that one that cannot be reached costs no more than a moment.
func (c *Client) Connect(ctx context.Context) (trust.Peer, error) {
	return trust.Peer{}, errors.ErrUnsupported
}

// Addr returns the address that answered last, with its zone; the zero value
// before the first.
func (c *Client) Addr() netip.AddrPort { return netip.AddrPort{} }

// Containers returns the node's own containers, as they are now.
func (c *Client) Containers(ctx context.Context) ([]Container, error) {
	return nil, errors.ErrUnsupported
}

// Spec returns the .bun text of the specification of a container with the given
// id, at most bunfile.MaxSize bytes of whatever the node holds for one; parse it
// with bunfile.ParseUntrusted. The error for a container that is not there is
// ErrNotFound.
func (c *Client) Spec(ctx context.Context, id string) ([]byte, error) {
	return nil, errors.ErrUnsupported
}

// Watch yields the node's containers at once and after every change. It ends
// with an error: ErrSilent after 6 s without a sign of life, which the node gives
// every 2 s, that of a connection that was cut or could not be made, or that of
// ctx. To go on, call it again. The loop's body must not take longer than a few
// seconds, or the node cuts it off.
func (c *Client) Watch(ctx context.Context) iter.Seq2[[]Container, error] {
	return func(yield func([]Container, error) bool) { yield(nil, errors.ErrUnsupported) }
}

// Image returns the root of an image that the node has, by its name as in
// image.docker_image. What is not there gives runtime.ErrNoBlob. Nothing but the
// node says that the name stands for that root; what has the root's digest is
// what the node meant.
func (c *Client) Image(ctx context.Context, name string) (runtime.Descriptor, error) {
	return runtime.Descriptor{}, errors.ErrUnsupported
}

// Blobs returns the node as a source of the parts of an image, by the image's
// name. Reading fails with stall.ErrStalled's text where too little arrives. It
// is usable until [Client.Close].
func (c *Client) Blobs(name string) runtime.BlobSource { return nil }

// Close ends the connections, and what uses them, with ErrClosed. It can be
// called again.
func (c *Client) Close() error { return nil }
