// Package peer is how the nodes of a flock talk to each other: a node's own
// endpoint, with the client for those of others.
//
// # A first use
//
//	ln, err := peer.Listen(ctx, "")       // port 18733, or the next free one
//	srv := peer.NewServer(flock, node)    // node: what there is to serve
//	go srv.Serve(ln)
//
//	c := peer.NewClient(flock, nodeID, addrs)
//	for containers, err := range c.Watch(ctx) { … } // until the node is gone
//
// # Who is talked to
//
// Every connection is TLS 1.3 with both sides verified (package trust): members
// of the flock alone are served, and a client talks to the node that it was told
// to. There is nothing before the handshake and nothing in clear. Both sides
// speak HTTP/2 (RFC 9113), or on connections of their own what carries a volume,
// and nothing else. A token that was changed ends the
// connections that were made with the one before.
//
// # What is served
//
//	GET /budgie/v1/                      {"node": ID}
//	GET /budgie/v1/containers            {"containers": […], "hosting": {…}}, see [Container], [Hosting]
//	GET /budgie/v1/containers/ID/spec    the .bun text of one
//	GET /budgie/v1/events                a line of JSON at once, after every change, every 2 s
//	GET /budgie/v1/traffic               {"traffic": […]}, see [Traffic]
//	GET /v2/                             the OCI distribution read API, which follows
//	GET /v2/NAME/manifests/TAG|DIGEST
//	GET /v2/NAME/blobs/DIGEST            with Range: bytes=FROM-[TO]
//
// HEAD is answered where GET is, but for events. Errors are JSON in the form of
// the OCI distribution specification.
//
// # Volumes
//
// A connection whose protocol is budgie-sync/1 (ALPN, RFC 7301) carries one
// volume of a container, by its target, from the node to the client; see
// volumewire.go for what is said before the two sides' Syncers talk. A Node that
// is a [VolumeSender] has them. Nothing else can be had that way: the directory
// is the one that the node's own record of the container names.
//
// # Names of images
//
// NAME is the repository as OCI has it. The query ns=HOST[:PORT] names its
// registry, as the clients of containerd's mirrors say it; this package's client
// always does. Without it NAME stands for itself, as in image.docker_image:
// web is docker.io/library/web, and its first element may be the registry, such
// as docker.io/library/web. A registry with a port needs ns, because a colon
// cannot be in NAME. A tag is looked up by the whole reference. A digest names
// the same bytes everywhere, so it is looked up in all that the node's runtimes
// have for images, whatever NAME is.
//
// # Limits
//
// All that a peer can make the other side keep, do, or wait for is bounded; see
// limits.go. A peer that does not read what it asked for is cut off, and a
// connection without handshake gives way to a newer one.
package peer
