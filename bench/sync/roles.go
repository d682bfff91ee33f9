//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"

	"github.com/budgiehq/budgie/peer"
	"github.com/budgiehq/budgie/replica"
	"github.com/budgiehq/budgie/runtime"
	"github.com/budgiehq/budgie/trust"
)

// The volume that nodes speak of.
var (
	containerID = strings.Repeat("7", 64)
	target      = "/data"
)

// node serves one directory as a volume, and nothing else.
type node struct {
	dir    string
	copier *replica.Copier
}

// Containers implements peer.Node.
func (node) Containers(context.Context) ([]peer.Container, error) { return nil, nil }

// Watch implements peer.Node.
func (node) Watch(context.Context) (<-chan struct{}, error) { return make(chan struct{}), nil }

// Spec implements peer.Node.
func (node) Spec(context.Context, string) ([]byte, error) { return nil, peer.ErrNotFound }

// Images implements peer.Node.
func (node) Images() []runtime.ImageSource { return nil }

// OpenVolume implements peer.VolumeSender.
func (n node) OpenVolume(context.Context, string, string) (func(context.Context, io.ReadWriteCloser) error, error) {
	return func(ctx context.Context, conn io.ReadWriteCloser) error {
		_, err := n.copier.Send(ctx, conn, n.dir)
		return err
	}, nil
}

// member returns a node's membership of the flock that a token is of.
func member(token string) (*trust.Flock, error) {
	t, err := trust.ParseToken(token)
	if err != nil {
		return nil, err
	}
	return trust.New(trust.WithToken(t, "the benchmark"))
}

// memorySuffix names the directory beside a source that remembers it.
const memorySuffix = ".sources"

// newCopier returns one as Budgie's own client has it, for a directory.
func newCopier(dir string) *replica.Copier {
	return replica.New(replica.Remember(replica.DefaultKeepAge, replica.DefaultKeepSize), replica.RememberSources(dir+memorySuffix))
}

// serve is a node that owns a volume. Its arguments are the token, where to listen
// and the directory.
func serve(ctx context.Context, args []string) error {
	f, err := member(args[0])
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", args[1])
	if err != nil {
		return err
	}
	server := peer.NewServer(f, node{args[2], newCopier(args[2])})
	closed := make(chan error, 1)
	context.AfterFunc(ctx, func() { closed <- server.Close() })
	fmt.Println("ready")
	if err := server.Serve(ln); ctx.Err() == nil {
		return err
	}
	return <-closed // what is sent is remembered by then
}

// fetch asks a node for its volume, by arguments as serve has them.
func fetch(ctx context.Context, args []string, use func(conn io.ReadWriteCloser) error) error {
	f, err := member(args[0])
	if err != nil {
		return err
	}
	addr, err := netip.ParseAddrPort(args[1])
	if err != nil {
		return err
	}
	client := peer.NewClient(f, "", []netip.AddrPort{addr})
	return errors.Join(client.ReceiveVolume(ctx, containerID, target, use), client.Close())
}

// receive is a node that makes a copy.
func receive(ctx context.Context, args []string) error {
	return fetch(ctx, args, func(conn io.ReadWriteCloser) error {
		_, err := newCopier(args[2]).Receive(ctx, conn, args[2], replica.ReceiveOptions{})
		return err
	})
}

// synced is what a follower prints when its copy is what the source is.
const synced = "synced "

// follow is a node that keeps a copy. It prints when that is as its source.
func follow(ctx context.Context, args []string) error {
	return fetch(ctx, args, func(conn io.ReadWriteCloser) error {
		return newCopier(args[2]).Follow(ctx, conn, args[2], replica.FollowOptions{Tell: func(s replica.FollowState) {
			if s.Phase == replica.Synced {
				fmt.Println(synced + s.Digest)
			}
		}})
	})
}
