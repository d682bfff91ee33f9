package replica

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
)

// A summed file is one that this package keeps for itself. It ends with the SHA-256 of
// all that is before, and is written whole or not at all.

// errNoMemory says that a summed file is not what was written.
var errNoMemory = errors.New("not what it was when it was written")

// storeSummed writes one. What write does not return is returned all the same: w
// remembers its first error.
func storeSummed(name string, write func(w *bufio.Writer) error) (err error) {
	// Its name is always the same, so that those who are killed leave one at most.
	half := name + ".new"
	if err := os.Remove(half); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(half, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
		}
	}()
	sum := sha256.New()
	w := bufio.NewWriterSize(io.MultiWriter(f, sum), 64<<10)
	if err := errors.Join(write(w), w.Flush()); err != nil {
		return err
	}
	if _, err := f.Write(sum.Sum(nil)); err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}

// readSummed reads one, if it is there.
func readSummed(name string, read func(r *summedReader) error) (there bool, err error) {
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	defer f.Close()
	if err := checkSummed(f, read); err != nil {
		return false, fmt.Errorf("%s: %w", name, err)
	}
	return true, nil
}

// checkSummed reads one that is open, from its beginning.
func checkSummed(f *os.File, read func(r *summedReader) error) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	size := info.Size() - sha256.Size
	sum := sha256.New()
	r := &summedReader{r: bufio.NewReaderSize(io.NewSectionReader(f, 0, size), 64<<10), sum: sum, size: size}
	if err := read(r); err != nil {
		return err
	}
	tail := make([]byte, sha256.Size)
	if _, err := f.ReadAt(tail, size); err != nil {
		return err
	}
	if !bytes.Equal(tail, sum.Sum(nil)) {
		return errNoMemory
	}
	return nil
}

// summedReader reads a summed file, and computes the sum of what it reads.
type summedReader struct {
	r   *bufio.Reader
	sum hash.Hash
	buf []byte
	// size is how many bytes there are in all, less than none in a file that is cut off.
	size int64
}

// bytes returns the next bytes, until it is called again.
func (r *summedReader) bytes(n int) ([]byte, error) {
	if cap(r.buf) < n {
		r.buf = make([]byte, max(n, 4<<10))
	}
	b := r.buf[:n]
	_, err := io.ReadFull(r.r, b)
	r.sum.Write(b)
	return b, err
}

// heading reads what a file has to begin with.
func (r *summedReader) heading(want string) error {
	if got, err := r.bytes(len(want)); err != nil || string(got) != want {
		return errNoMemory
	}
	return nil
}

// more reports whether there is more to read.
func (r *summedReader) more() bool {
	_, err := r.r.Peek(1)
	return err == nil
}
