package peer

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"time"
)

// Containers returns the node's own containers, as they are now.
func (c *Client) Containers(ctx context.Context) ([]Container, error) {
	data, _, err := c.fetch(ctx, path(pathContainers), maxList)
	if err != nil {
		return nil, err
	}
	told, ok, err := decodeList(data, c.expected())
	if err == nil && !ok {
		err = fmt.Errorf("%w: there is no list of containers in it", ErrInvalid)
	}
	if err != nil {
		return nil, c.explain(ctx, err)
	}
	return told.Containers, nil
}

// Spec returns the .bun text of the specification of a container with the given
// id, at most bunfile.MaxSize bytes of whatever the node holds for one; parse it
// with bunfile.ParseUntrusted. The error for a container that is not there is
// ErrNotFound.
func (c *Client) Spec(ctx context.Context, id string) ([]byte, error) {
	if !isID(id) {
		return nil, c.explain(ctx, fmt.Errorf("%w: a container's id has 64 hexadecimal characters", ErrNotFound))
	}
	data, _, err := c.fetch(ctx, path(specPath(id)), maxSpec)
	return data, err
}

// path returns the URL of a path on a host.
func path(p string) func(host string) *url.URL {
	return func(host string) *url.URL { return &url.URL{Scheme: "https", Host: host, Path: p} }
}

// Watch yields the node's containers at once and after every change. It ends
// with an error: ErrSilent after 6 s without a sign of life, which the node gives
// every 2 s, ErrSentAway, that of a connection that was cut or could not be made,
// or that of ctx. To go on, call it again. The loop's body must not take longer than a few
// seconds, or the node cuts it off.
func (c *Client) Watch(ctx context.Context) iter.Seq2[[]Container, error] {
	return func(yield func([]Container, error) bool) {
		for told, err := range c.WatchNode(ctx) {
			if !yield(told.Containers, err) {
				return
			}
		}
	}
}

// WatchNode is Watch for all that the node tells, after every change of it.
func (c *Client) WatchNode(ctx context.Context) iter.Seq2[Told, error] {
	return func(yield func(Told, error) bool) {
		ctx, stop := c.within(ctx)
		defer stop()
		if err := c.watch(ctx, func(t Told) bool { return yield(t, nil) }); err != nil {
			yield(Told{}, c.explain(ctx, err))
		}
	}
}

// watch calls see with every list, until it returns false: then the error is
// nil.
func (c *Client) watch(ctx context.Context, see func(Told) bool) error {
	if _, _, err := c.link(ctx, &c.small); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var last *link
	timer := time.AfterFunc(silence, func() {
		cancel(fmt.Errorf("%w: nothing was heard of it for %s", ErrSilent, silence))
	})
	defer timer.Stop()
	// fail says why it ends. A connection without signs of life is of no use to
	// anybody.
	fail := func(err error) error {
		if cause := context.Cause(ctx); errors.Is(cause, ErrSilent) {
			if last != nil {
				c.small.drop(last)
			}
			return cause
		}
		return err
	}
	resp, l, err := c.get(ctx, &c.small, path(pathEvents), nil, http.StatusOK)
	if last = l; err != nil {
		return fail(err)
	}
	defer resp.Body.Close()
	r := bufio.NewReader(resp.Body)
	for {
		line, err := readLine(r, maxList)
		if err != nil {
			return fail(err)
		}
		timer.Stop() // what the caller does with it is not the node's silence
		told, ok, err := decodeList(line, l.peer.Node)
		if err != nil {
			return err
		}
		if ok && !see(told) {
			return nil
		}
		timer.Reset(silence)
	}
}

// readLine reads a line of at most a size, without what ends it.
func readLine(r *bufio.Reader, most int) ([]byte, error) {
	var line []byte
	for {
		piece, err := r.ReadSlice('\n')
		if len(line)+len(piece) > most {
			return nil, fmt.Errorf("%w: a line of more than %d bytes", ErrInvalid, most)
		}
		line = append(line, piece...)
		switch {
		case err == nil:
			return bytes.TrimSuffix(line, []byte("\n")), nil
		case errors.Is(err, io.EOF):
			return nil, ErrSentAway
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		}
	}
}
