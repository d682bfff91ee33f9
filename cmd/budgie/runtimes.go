package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"

	"github.com/budgiehq/budgie"
	"github.com/budgiehq/budgie/runtime"
	"github.com/budgiehq/budgie/runtime/containerd"
	"github.com/budgiehq/budgie/runtime/process"
)

// runtimes are what the command runs containers on, in the order in which they
// are asked: commands of this machine are processes, images are containerd's.
// Neither does anything before a container needs it. Close closes them.
type runtimes struct {
	all []budgie.Runtime
}

func openRuntimes(dataDir string, log *slog.Logger) (*runtimes, error) {
	rs := &runtimes{}
	p, err := process.New(filepath.Join(dataDir, process.Name), process.WithLogger(log))
	if err := rs.add(p, err); err != nil {
		return nil, fmt.Errorf("%w; make the data directory writable for this user, or set BUDGIE_DATA_DIR to another one", err)
	}
	c, err := containerd.New(containerd.WithDataDir(filepath.Join(dataDir, containerd.Name)), containerd.WithLogger(log))
	if err := rs.add(c, err); err != nil {
		return nil, errors.Join(err, rs.Close())
	}
	return rs, nil
}

// add adds a runtime. One that this operating system does not have stays, to
// say so to whoever asks for it.
func (rs *runtimes) add(r budgie.Runtime, err error) error {
	if err == nil || errors.Is(err, runtime.ErrUnsupported) {
		rs.all = append(rs.all, r)
		return nil
	}
	return err
}

// options gives the runtimes to a client, which is to be closed before them.
func (rs *runtimes) options() []budgie.Option {
	var opts []budgie.Option
	for _, r := range rs.all {
		opts = append(opts, budgie.WithRuntime(r))
	}
	return opts
}

// Close closes all runtimes. Containers run on.
func (rs *runtimes) Close() error {
	var errs []error
	for _, r := range rs.all {
		errs = append(errs, r.(io.Closer).Close())
	}
	return errors.Join(errs...)
}
