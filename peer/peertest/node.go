// Package peertest holds fakes for tests of what talks to peers: a node in
// memory with its images.
package peertest

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/budgiehq/budgie/peer"
	"github.com/budgiehq/budgie/runtime"
)

// Node is a peer.Node in memory. The zero value has nothing. All methods may be
// called concurrently.
type Node struct {
	mu         sync.Mutex
	containers []peer.Container
	specs      map[string][]byte
	images     []runtime.ImageSource
	hosting    *peer.Hosting
	watchers   map[chan struct{}]bool
}

// Set replaces the containers, and tells those that watch.
func (n *Node) Set(containers ...peer.Container) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.containers = slices.Clone(containers)
	n.tell()
}

// SetHosting makes the node a host, or none by nil, and tells those that watch.
func (n *Node) SetHosting(h *peer.Hosting) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hosting = h
	n.tell()
}

// Hosting implements peer.Hoster.
func (n *Node) Hosting() *peer.Hosting {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.hosting
}

// tell tells those that watch. The caller holds the lock.
func (n *Node) tell() {
	for w := range n.watchers {
		select {
		case w <- struct{}{}:
		default: // it has one to come
		}
	}
}

// SetSpec sets the text of a container's specification.
func (n *Node) SetSpec(id string, text []byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.specs == nil {
		n.specs = make(map[string][]byte)
	}
	n.specs[id] = bytes.Clone(text)
}

// AddImages adds a source of images.
func (n *Node) AddImages(src runtime.ImageSource) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.images = append(n.images, src)
}

// Watchers returns how many watch at the moment.
func (n *Node) Watchers() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.watchers)
}

// Containers implements peer.Node.
func (n *Node) Containers(ctx context.Context) ([]peer.Container, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.containers), ctx.Err()
}

// Watch implements peer.Node.
func (n *Node) Watch(ctx context.Context) (<-chan struct{}, error) {
	w := make(chan struct{}, 1)
	w <- struct{}{}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.watchers == nil {
		n.watchers = make(map[chan struct{}]bool)
	}
	n.watchers[w] = true
	context.AfterFunc(ctx, func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.watchers, w)
	})
	return w, nil
}

// Spec implements peer.Node.
func (n *Node) Spec(_ context.Context, id string) ([]byte, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	text, ok := n.specs[id]
	if !ok {
		return nil, fmt.Errorf("container %s: %w", id, peer.ErrNotFound)
	}
	return bytes.Clone(text), nil
}

// Images implements peer.Node.
func (n *Node) Images() []runtime.ImageSource {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.images)
}
