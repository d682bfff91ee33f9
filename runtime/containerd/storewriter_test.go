//go:build linux

package containerd

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/budgiehq/budgie/internal/containerdtest"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// intake is a blob that a test puts into containerd.
type intake struct {
	*testing.T
	ctx   context.Context // with a lease, which end releases
	end   func()
	store content.Store
	desc  ocispec.Descriptor
	data  []byte
}

// newIntake returns one of random bytes.
func newIntake(t *testing.T, r *Runtime, size int) *intake {
	t.Helper()
	c, err := r.client(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, done, err := c.WithLease(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	data := make([]byte, size)
	_, _ = rand.Read(data)
	return &intake{t, ctx, func() {
		t.Helper()
		if err := done(ctx); err != nil {
			t.Error(err)
		}
	}, c.ContentStore(), ocispec.Descriptor{Digest: digest.FromBytes(data), Size: int64(size)}, data}
}

// writer returns a writer, which is one into a file, or is not, and begins where
// it has to.
func (in *intake) writer(file bool, offset int) content.Writer {
	in.Helper()
	w := in.open()
	in.Cleanup(func() { _ = w.Close() }) // most are closed then
	if _, is := w.(*fileWriter); is != file {
		in.Errorf("the writer is a %T", w)
	}
	if st, err := w.Status(); err != nil || st.Offset != int64(offset) {
		in.Errorf("it begins at %d instead of %d: %v", st.Offset, offset, err)
	}
	return w
}

func (in *intake) open() content.Writer {
	in.Helper()
	// OpenWriter waits until containerd has let go of the one before.
	w, err := content.OpenWriter(in.ctx, in.store, content.WithRef(in.desc.Digest.String()), content.WithDescriptor(in.desc))
	if err != nil {
		in.Fatal(err)
	}
	return w
}

func (in *intake) write(w content.Writer, p []byte) {
	in.Helper()
	if n, err := w.Write(p); n != len(p) || err != nil {
		in.Fatal(n, err)
	}
}

func (in *intake) commit(w content.Writer) error {
	return w.Commit(in.ctx, in.desc.Size, in.desc.Digest)
}

// arrived checks that containerd has the blob.
func (in *intake) arrived() {
	in.Helper()
	got, err := content.ReadBlob(in.ctx, in.store, in.desc)
	if err != nil || !bytes.Equal(got, in.data) {
		in.Errorf("containerd has %d bytes, or others: %v", len(got), err)
	}
	in.end()
}

// whole writes all of the blob, and checks that it arrives.
func (in *intake) whole(w content.Writer) {
	in.Helper()
	in.write(w, in.data)
	if err := in.commit(w); err != nil {
		in.Error(err)
	}
	in.arrived()
}

// intaking returns a Runtime of a daemon of its own.
func intaking(t *testing.T, v containerdtest.Version) (*containerdtest.Daemon, *Runtime) {
	t.Helper()
	containerdtest.Need(t)
	d := private(t, v)
	r := open(t, d, t.TempDir())
	t.Cleanup(func() { _ = r.Close() }) // what matters is looked at
	return d, r
}

// A large blob is written into the file in which containerd gathers it, is taken up
// again where it was, and has to have its digest in the end.
func TestBlobsAreWrittenIntoTheirFiles(t *testing.T) {
	containerdtest.Need(t)
	containerdtest.EachVersion(t, func(t *testing.T, v containerdtest.Version) {
		d, r := intaking(t, v)
		in := newIntake(t, r, intoFileFrom)
		half := len(in.data) / 2

		w := in.writer(true, 0)
		if _, err := in.store.Writer(in.ctx, content.WithRef(in.desc.Digest.String()), content.WithDescriptor(in.desc)); !errdefs.IsUnavailable(err) {
			t.Errorf("somebody else gets it meanwhile: %v", err)
		}
		in.write(w, in.data[:half])
		if err := w.Close(); err != nil {
			t.Error(err)
		}
		w = in.writer(true, half)
		in.write(w, bytes.Repeat([]byte{1}, len(in.data)-half))
		if err := in.commit(w); !errdefs.IsFailedPrecondition(err) {
			t.Errorf("other bytes were taken: %v", err)
		}
		_ = w.Close() // the session has ended
		w = in.open()
		if err := w.Truncate(0); err != nil {
			t.Error(err)
		}
		in.whole(w)

		small := newIntake(t, r, intoFileFrom-1)
		small.whole(small.writer(false, 0))
		empty(t, d)
	})
}

// A containerd that is started anew while a blob comes takes it all the same in the end.
func TestBlobComesOverARestartOfContainerd(t *testing.T) {
	d, r := intaking(t, containerdtest.Latest)
	in := newIntake(t, r, 2*intoFileFrom)
	w := in.writer(true, 0)
	in.write(w, in.data[:intoFileFrom])
	d.Kill()
	in.write(w, in.data[intoFileFrom:][:intoFileFrom/2])
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	in.write(w, in.data[intoFileFrom*3/2:])
	if err := in.commit(w); err != nil {
		t.Fatal(err)
	}
	in.arrived()
	empty(t, d)
}

// Where the file cannot be had, or is not containerd's, a blob goes through the
// socket.
func TestBlobsThatCannotBeWrittenIntoTheirFiles(t *testing.T) {
	d, r := intaking(t, containerdtest.Latest)
	in := newIntake(t, r, intoFileFrom)
	other := t.TempDir()
	r.content.Store(&other)
	in.whole(in.writer(false, 0)) // there is none

	in = newIntake(t, r, intoFileFrom)
	ingest := filepath.Join(other, "ingest", "another")
	ref := d.Namespace + "/7/" + in.desc.Digest.String()
	if err := errors.Join(os.MkdirAll(ingest, 0o700), os.WriteFile(filepath.Join(ingest, "ref"), []byte(ref), 0o600),
		os.WriteFile(filepath.Join(ingest, "data"), []byte("more"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := in.writer(false, 0).Close(); err != nil { // it has other bytes
		t.Error(err)
	}
	if err := os.Truncate(filepath.Join(ingest, "data"), 0); err != nil {
		t.Fatal(err)
	}
	w := in.writer(true, 0) // of another containerd, as it seems
	in.write(w, in.data)
	if err := in.commit(w); !errors.Is(err, content.ErrReset) {
		t.Fatalf("%v", err)
	}
	in.whole(w)

	in = newIntake(t, r, intoFileFrom)
	in.whole(in.writer(false, 0)) // from then on
	empty(t, d)
}

func TestIsRef(t *testing.T) {
	for text, want := range map[string]bool{
		"budgie/12/layer-sha256:ab": true,
		"other/12/layer-sha256:ab":  false,
		"budgie/12/layer-sha256:a":  false,
		"budgie/x/layer-sha256:ab":  false,
		"budgie//layer-sha256:ab":   false,
		"budgie/layer-sha256:ab":    false,
		"":                          false,
	} {
		if got := isRef(text, "budgie", "layer-sha256:ab"); got != want {
			t.Errorf("isRef(%q) is %t", text, got)
		}
	}
}
