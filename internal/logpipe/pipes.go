//go:build linux || darwin

package logpipe

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/budgiehq/budgie/internal/logfile"
	"github.com/budgiehq/budgie/internal/ownership"
	"github.com/budgiehq/budgie/runtime"
	"golang.org/x/sys/unix"
)

// outputs are the two streams in the order of their file descriptors.
var outputs = [2]runtime.LogStream{runtime.Stdout, runtime.Stderr}

// chunk is how much is taken from a pipe at a time, in bytes.
const chunk = 64 << 10

// Streams are the named pipes of a container, each open twice: blocking, for
// the container to inherit, and not blocking, for its supervisor. Both are open
// for reading and writing, so that neither side ever sees the other one gone.
type Streams struct {
	// Child are standard output and error for the container.
	Child [2]*os.File
	own   [2]*os.File
}

// Make makes new pipes in dir, so that nothing which still has the old
// ones open writes into a new run's output.
func Make(dir string) (_ *Streams, err error) {
	s := &Streams{}
	if err := makeDir(dir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.CloseChild()
			s.Close()
		}
	}()
	for i, stream := range outputs {
		path := filepath.Join(dir, string(stream))
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		if err := unix.Mkfifo(path, 0o600); err != nil {
			return nil, fmt.Errorf("make a named pipe: %w", err)
		}
		fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
		if err != nil {
			return nil, fmt.Errorf("open a named pipe: %w", err)
		}
		s.Child[i] = os.NewFile(uintptr(fd), path)
		if err := ownership.Give(s.Child[i], dir); err != nil {
			return nil, fmt.Errorf("make a named pipe: %w", err)
		}
		growPipe(fd)
	}
	return s, s.openOwn(dir)
}

// Open opens the supervisor's side of the pipes that Make made in dir.
func Open(dir string) (*Streams, error) {
	s := &Streams{}
	if err := makeDir(dir); err != nil {
		return nil, err
	}
	if err := s.openOwn(dir); err != nil {
		return nil, err
	}
	return s, nil
}

// makeDir makes the pipes' directory where somebody has deleted it, as "ctr tasks
// rm" does: its container could never be removed.
func makeDir(dir string) error {
	if err := ownership.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make the directory of named pipes: %w", err)
	}
	return nil
}

// openOwn opens the supervisor's side of existing pipes. One that somebody has
// deleted is replaced: its output is lost, but the container can still be
// supervised.
func (s *Streams) openOwn(dir string) error {
	for i, stream := range outputs {
		path := filepath.Join(dir, string(stream))
		f, err := os.OpenFile(path, os.O_RDWR|unix.O_NONBLOCK, 0)
		if errors.Is(err, fs.ErrNotExist) {
			if err = unix.Mkfifo(path, 0o600); err == nil {
				f, err = os.OpenFile(path, os.O_RDWR|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
			}
			if err == nil {
				err = ownership.Give(f, dir)
			}
		}
		s.own[i] = f
		if err != nil {
			s.Close()
			return fmt.Errorf("open a named pipe: %w", err)
		}
	}
	return nil
}

// CloseChild closes the container's side in this process.
func (s *Streams) CloseChild() { closeFiles(s.Child[:]) }

// Close closes the supervisor's side.
func (s *Streams) Close() { closeFiles(s.own[:]) }

func closeFiles(files []*os.File) {
	for i, f := range files {
		if f != nil {
			f.Close()
			files[i] = nil
		}
	}
}

// Sink is where a container's output goes.
type Sink struct {
	// ID is the container's.
	ID string
	// Log is written to until Pumps.End has returned.
	Log *logfile.Writer
	// Logger hears of output that is lost.
	Logger *slog.Logger
}

// Pumps carry a container's output from its pipes to its log.
type Pumps struct {
	streams  *Streams
	wg       sync.WaitGroup
	draining atomic.Bool
}

// Pump starts carrying output. The streams belong to the pumps from then on.
func (p *Reader) Pump(s *Streams, sink Sink) *Pumps {
	ps := &Pumps{streams: s}
	for i, stream := range outputs {
		one := &pump{reader: p, sink: sink, file: s.own[i], stream: stream}
		ps.wg.Go(func() { one.carry(&ps.draining) })
	}
	return ps
}

// End stops carrying, after what is in the pipes now if drain is set, and
// closes the pipes.
func (p *Pumps) End(drain bool) {
	p.draining.Store(drain)
	for _, f := range p.streams.own {
		f.SetReadDeadline(time.Unix(1, 0))
	}
	p.wg.Wait()
	p.streams.Close()
}

type pump struct {
	reader *Reader
	sink   Sink
	file   *os.File
	stream runtime.LogStream
	warned bool
}

// drainLimit bounds what is read after the end. It is more than a pipe holds;
// beyond it, something that outlived the container is still writing.
const drainLimit = 4 << 20

// carry works until the file's deadline, and then empties the pipe if it is to.
func (p *pump) carry(draining *atomic.Bool) {
	conn, err := p.file.SyscallConn()
	if err != nil {
		return
	}
	for err == nil {
		_, err = p.reader.move(conn, true, p.write)
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		p.sink.Logger.Error("cannot read a container's output", "id", p.sink.ID, "stream", p.stream, "error", err)
	}
	if !draining.Load() || p.file.SetReadDeadline(time.Time{}) != nil {
		return
	}
	for total := 0; total < drainLimit; {
		n, err := p.reader.move(conn, false, p.write)
		if n == 0 || err != nil {
			return
		}
		total += n
	}
}

// write logs a piece of output. One that cannot be logged is thrown away: a
// full disk is no reason to hold the container up.
func (p *pump) write(data []byte) {
	err := p.sink.Log.Write(p.stream, time.Now(), data)
	if err != nil && !p.warned {
		p.sink.Logger.Warn("a container's output is lost", "id", p.sink.ID, "stream", p.stream, "error", err)
	}
	p.warned = err != nil
}
