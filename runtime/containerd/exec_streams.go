//go:build linux

package containerd

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"

	"github.com/budgiehq/budgie/internal/execio"
	"github.com/budgiehq/budgie/internal/logpipe"
	"github.com/budgiehq/budgie/runtime"
	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
)

// execStreams are the streams of a process in a container.
type execStreams struct {
	// ctx is the call's.
	ctx context.Context
	cfg runtime.ExecConfig
	out execio.Output
	// pipes are the client's ends of the streams.
	pipes cio.IO
	// lock says that this process lives; see openOrphans.
	lock *os.File
	// all is closed when all output is handed over, over when nobody waits for
	// that any more.
	all, over chan struct{}
	// process is set when isStarted is closed. ended is closed when it has ended,
	// or was never started.
	process          client.Process
	isStarted, ended chan struct{}
}

func newExecStreams(ctx context.Context, cfg runtime.ExecConfig) *execStreams {
	return &execStreams{ctx: ctx, cfg: cfg, all: make(chan struct{}), over: make(chan struct{}),
		isStarted: make(chan struct{}), ended: make(chan struct{})}
}

// creator makes the streams, in a directory below dir.
func (s *execStreams) creator(dir string) cio.Creator {
	var in io.Reader
	opts := []cio.Opt{nil, cio.WithFIFODir(dir)}
	if s.cfg.TTY != nil {
		if s.cfg.Stdin != nil {
			// The shim hangs up when the input of a terminal ends.
			in = execio.Typing(s.cfg.Stdin, s.ended)
		}
		opts[0] = cio.WithStreams(in, s.out.To(s.cfg.Stdout), nil)
		opts = append(opts, cio.WithTerminal)
	} else {
		if s.cfg.Stdin != nil {
			in = &execInput{s.cfg.Stdin, s}
		}
		// The shim of containerd 1.6 wants both outputs where there is any stream.
		opts[0] = cio.WithStreams(in, s.out.To(s.cfg.Stdout), s.out.To(s.cfg.Stderr))
	}
	create := cio.NewCreator(opts...)
	return func(id string) (_ cio.IO, err error) {
		if s.pipes, err = create(id); err != nil {
			return nil, err
		}
		s.lock = lockStreams(filepath.Dir(s.pipes.Config().Stdout))
		go func() {
			defer close(s.all)
			s.pipes.Wait()
		}()
		return &execIO{s.pipes, s}, nil
	}
}

// execIO is what the client knows of the streams.
type execIO struct {
	cio.IO
	s *execStreams
}

// Wait waits for the output. The client's Delete and its failed Start do so
// (client 2.4.2), and a receiver that hangs would hang them. The end of ctx can
// fail a Start of what has begun to write.
func (io *execIO) Wait() {
	select {
	case <-io.s.all:
	case <-io.s.over:
	case <-io.s.ctx.Done():
	}
}

// started says that the process is started.
func (s *execStreams) started(p client.Process) {
	s.process = p
	close(s.isStarted)
}

// end waits for the output of a process that has ended, and reports whether it
// came to its end. The client's Delete closes the pipes, read to their end or not
// (client 2.4.2).
func (s *execStreams) end() (drained bool) {
	close(s.ended)
	if drained = s.out.Drain(s.ctx, s.all); !drained {
		s.pipes.Cancel()
		s.out.Drain(s.ctx, s.all) // nothing is written any more, unless a receiver hangs
	}
	close(s.over)
	_ = s.lock.Close() // of nil is an error, too
	return drained
}

// freshStreams makes the streams of a container that starts.
func freshStreams(dir string) (*logpipe.Streams, error) {
	if err := sweepExecs(dir); err != nil {
		return nil, err
	}
	return logpipe.Make(dir)
}

// sweepExecs removes what killed clients left of the streams of commands, which
// have all ended with the container.
func sweepExecs(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		if e.IsDir() { // the container's own streams are pipes
			err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
		}
	}
	return err
}

// resize gives the terminal its further sizes until the process's end.
func (s *execStreams) resize(ctx context.Context, sizes <-chan runtime.TTYSize) {
	for {
		select {
		case size, more := <-sizes:
			if !more {
				return
			}
			// An error means that the process has ended.
			_ = s.process.Resize(ctx, uint32(size.Columns), uint32(size.Rows))
		case <-s.ended:
			return
		}
	}
}

// execInput is the standard input of a process without a terminal. The shim
// keeps its end of the pipe open until it is told that the input is over.
type execInput struct {
	io.Reader
	s *execStreams
}

// Read reads, and closes the process's input at the end.
func (in *execInput) Read(buf []byte) (int, error) {
	n, err := in.Reader.Read(buf)
	if err != nil {
		select {
		case <-in.s.isStarted:
		case <-in.s.ended:
			return n, err
		}
		ctx, cancel := context.WithTimeout(context.Background(), undoPatience)
		defer cancel()
		// An error means that the process has ended.
		_ = in.s.process.CloseIO(ctx, client.WithStdinCloser)
	}
	return n, err
}
