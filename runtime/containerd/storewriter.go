//go:build linux

package containerd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/content/proxy"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

const (
	// intoFileFrom is the size in bytes from which on a blob is written into the file
	// in which containerd gathers it: below, to have it read there costs more than
	// the socket does.
	intoFileFrom = 4 << 20
	// flushEvery is how many bytes are written before the disk is to begin with them:
	// containerd waits for it in the end.
	flushEvery = 8 << 20
	// handBackPatience is how long containerd may take to let go of a blob, which it
	// writes to the disk before.
	handBackPatience = time.Minute
)

// contentStore is containerd's content store. Large blobs that are put into it are
// written into the files in which containerd gathers them, where those can be had:
// that takes a tenth of the processor time that its socket does. containerd reads
// such a file at its end and verifies its digest, as always.
type contentStore struct {
	content.Store
	rt *Runtime
	c  *client.Client
	// foreign says that containerd did not find what was written: it sees other files.
	foreign atomic.Bool
}

// connected makes it the store of a connection.
func (s *contentStore) connected(c *client.Client) {
	s.c, s.Store = c, proxy.NewContentStore(c.Conn())
}

// Writer implements content.Ingester.
func (s *contentStore) Writer(ctx context.Context, opts ...content.WriterOpt) (content.Writer, error) {
	w, err := s.Store.Writer(ctx, opts...)
	if err != nil || s.foreign.Load() {
		return w, err
	}
	var o content.WriterOpts
	for _, opt := range opts {
		if err := opt(&o); err != nil {
			return nil, errors.Join(err, w.Close())
		}
	}
	if o.Desc.Size < intoFileFrom {
		return w, nil
	}
	status, err := w.Status()
	if err != nil {
		return nil, errors.Join(err, w.Close())
	}
	if status.Offset >= o.Desc.Size {
		return w, nil
	}
	f, err := s.openIngest(ctx, o.Ref, status.Offset)
	if err != nil {
		s.rt.log.Debug("a blob goes through containerd's socket", "ref", o.Ref, "reason", err)
		return w, nil
	}
	return &fileWriter{Writer: w, store: s, opts: opts, file: f, offset: status.Offset, flushed: status.Offset}, nil
}

// openIngest opens the file in which containerd gathers what it knows by a
// reference, and of which it has n bytes. It is an error where the file cannot be
// had, or may be another one.
func (s *contentStore) openIngest(ctx context.Context, ref string, n int64) (*os.File, error) {
	dir, err := s.findIngest(ctx, ref)
	if err != nil {
		return nil, err
	}
	return openSized(filepath.Join(dir, "data"), os.O_WRONLY|syscall.O_NOFOLLOW, n)
}

// findIngest returns the directory of what containerd knows by a reference. Its store
// has one for each blob that is not whole yet, with the reference in one file and the
// content in another.
func (s *contentStore) findIngest(ctx context.Context, ref string) (string, error) {
	root, err := s.rt.contentDir(ctx, s.c)
	if err != nil {
		return "", err
	}
	namespace, ok := namespaces.Namespace(ctx)
	if !ok {
		namespace = s.rt.namespace
	}
	dirs, err := os.ReadDir(filepath.Join(root, "ingest"))
	if err != nil {
		return "", err
	}
	found := ""
	for _, d := range dirs {
		dir := filepath.Join(root, "ingest", d.Name())
		text, err := os.ReadFile(filepath.Join(dir, "ref"))
		switch {
		case err != nil || !isRef(string(text), namespace, ref):
		case found != "":
			return "", fmt.Errorf("%s and %s have the same reference", found, dir)
		default:
			found = dir
		}
	}
	if found == "" {
		return "", fmt.Errorf("it is not below %s", root)
	}
	return found, nil
}

// isRef reports whether containerd's text is a reference of a namespace: there is a
// number between the two.
func isRef(text, namespace, ref string) bool {
	text, inNamespace := strings.CutPrefix(text, namespace+"/")
	number, is := strings.CutSuffix(text, "/"+ref)
	_, err := strconv.ParseUint(number, 10, 64)
	return inNamespace && is && err == nil
}

// fileWriter writes a blob into the file in which containerd gathers it.
type fileWriter struct {
	// Writer is containerd's. Nobody else gets the blob as long as it is open.
	content.Writer
	store *contentStore
	opts  []content.WriterOpt
	// file is where the next byte goes, and offset its place; file is nil when Writer
	// is what has to be used.
	file   *os.File
	offset int64
	// flushed is how far the disk has begun.
	flushed int64
}

// Write implements io.Writer. It writes each byte to its own place: where containerd was
// started anew meanwhile, somebody else may have the blob by now, and the same bytes in it.
func (w *fileWriter) Write(p []byte) (int, error) {
	if w.file == nil {
		return w.Writer.Write(p)
	}
	n, err := w.file.WriteAt(p, w.offset)
	if w.offset += int64(n); w.offset-w.flushed >= flushEvery {
		_ = unix.SyncFileRange(int(w.file.Fd()), w.flushed, w.offset-w.flushed, unix.SYNC_FILE_RANGE_WRITE) // it saves time
		w.flushed = w.offset
	}
	return n, err
}

// Status implements content.Writer.
func (w *fileWriter) Status() (content.Status, error) {
	status, err := w.Writer.Status()
	if w.file != nil {
		status.Offset = w.offset
	}
	return status, err
}

// Truncate implements content.Writer.
func (w *fileWriter) Truncate(size int64) error {
	if w.file == nil {
		return w.Writer.Truncate(size)
	}
	if err := w.file.Truncate(size); err != nil {
		return err
	}
	w.offset, w.flushed = size, size
	return nil
}

// Commit implements content.Writer. Its error is content.ErrReset where containerd
// does not have what was written: it goes through the socket from then on.
func (w *fileWriter) Commit(ctx context.Context, size int64, expected digest.Digest, opts ...content.Opt) error {
	if w.file != nil {
		if err := w.handBack(ctx); err != nil {
			return err
		}
	}
	return w.Writer.Commit(ctx, size, expected, opts...)
}

// Close implements io.Closer.
func (w *fileWriter) Close() error {
	var err error
	if w.file != nil {
		err = w.file.Close()
	}
	return errors.Join(err, w.Writer.Close())
}

// handBack has containerd read what was written. It does so for who goes on with a
// blob, and for that it has to be let go first.
func (w *fileWriter) handBack(ctx context.Context) error {
	err := w.file.Close()
	w.file = nil // who has the blob next may make it a part of the store
	if err = errors.Join(err, w.Writer.Close()); err != nil {
		return err
	}
	begin := time.Now()
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		next, err := w.store.Store.Writer(ctx, w.opts...)
		if err == nil {
			w.Writer = next
			break
		}
		if !errdefs.IsUnavailable(err) || time.Since(begin) > handBackPatience {
			return err
		}
		pause(ctx, wait) // its end has no event
	}
	status, err := w.Writer.Status()
	if err != nil || status.Offset == w.offset {
		return err
	}
	if !w.store.foreign.Swap(true) {
		w.store.rt.log.Warn("containerd does not find what was written into its directory: images go through its socket, which takes longer", "dir", *w.store.rt.content.Load())
	}
	return content.ErrReset
}
