package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
)

// changedFiles is how many small files change at once.
const changedFiles = 1000

// perDir is how many files a directory has.
const perDir = 100

// tree is a source, and what happens to it.
type tree struct {
	dir   string
	files int
	// big is the size of the big file, 0 where there is none.
	big    int64
	random *rand.ChaCha8
	// renamed counts how often the directory was.
	renamed int
}

// name is that of a small file.
func (t *tree) name(i int) string {
	dir := fmt.Sprintf("dir%d", i/perDir/10)
	if dir == "dir1" && t.renamed%2 == 1 {
		dir = "moved"
	}
	return filepath.Join(t.dir, dir, fmt.Sprintf("sub%d", i/perDir%10), fmt.Sprintf("file%d.dat", i))
}

// grow makes a tree with files of so many bytes on average, which nobody can
// compress.
func grow(dir string, files, size int, big int64) (*tree, error) {
	t := &tree{dir: dir, files: files, big: big, random: rand.NewChaCha8([32]byte{1})}
	for i := range files {
		if i%perDir == 0 {
			if err := os.MkdirAll(filepath.Dir(t.name(i)), 0o755); err != nil {
				return nil, err
			}
		}
		if err := t.fill(t.name(i), int64(size/2+int(t.random.Uint64()%uint64(size)))); err != nil {
			return nil, err
		}
	}
	if big == 0 {
		return t, nil
	}
	return t, t.fill(t.bigName(), big)
}

func (t *tree) bigName() string { return filepath.Join(t.dir, "big.dat") }

// fill makes a file.
func (t *tree) fill(name string, size int64) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	buf := make([]byte, min(size, 1<<20))
	for ; size > 0 && err == nil; size -= int64(len(buf)) {
		buf = buf[:min(size, int64(len(buf)))]
		_, _ = t.random.Read(buf) // never fails
		_, err = f.Write(buf)
	}
	return errors.Join(err, f.Close())
}

// change changes the big file.
func (t *tree) change(do func(f *os.File, size int64) error) error {
	f, err := os.OpenFile(t.bigName(), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil {
		err = do(f, info.Size())
	}
	return errors.Join(err, f.Close())
}

// oneByte changes a byte of the big file.
func (t *tree) oneByte() error {
	return t.change(func(f *os.File, size int64) error {
		at := int64(t.random.Uint64() % uint64(size))
		b := make([]byte, 1)
		if _, err := f.ReadAt(b, at); err != nil {
			return err
		}
		b[0]++
		_, err := f.WriteAt(b, at)
		return err
	})
}

// insert puts 100 bytes into the middle of the big file.
func (t *tree) insert() error {
	return t.change(func(f *os.File, size int64) error {
		tail := make([]byte, size-size/2)
		if _, err := f.ReadAt(tail, size/2); err != nil {
			return err
		}
		middle := make([]byte, 100)
		_, _ = t.random.Read(middle) // never fails
		_, err := f.WriteAt(append(middle, tail...), size/2)
		return err
	})
}

// touchMany rewrites many small files.
func (t *tree) touchMany() error {
	for i := range changedFiles {
		b := binary.NativeEndian.AppendUint64(nil, t.random.Uint64())
		f, err := os.OpenFile(t.name(i*(t.files/changedFiles)), os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = f.WriteAt(b, 0)
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// rename gives a directory of a thousand files another name, or its own again.
func (t *tree) rename() error {
	from, to := filepath.Join(t.dir, "dir1"), filepath.Join(t.dir, "moved")
	if t.renamed++; t.renamed%2 == 0 {
		from, to = to, from
	}
	return os.Rename(from, to)
}
