package main

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/internal/ociimage"
	"github.com/budgiehq/budgie/runtime/containerd"
)

// self is this program, and programInImage where the image has it.
const (
	self           = "/proc/self/exe"
	programInImage = "/replicated-web"
)

// useImage makes an image of this program, puts it into containerd, and makes
// it what the specification runs. remove takes it away again.
func useImage(ctx context.Context, dir string, spec *bunfile.Spec) (remove func() error, err error) {
	rt, err := containerd.New(containerd.WithDataDir(filepath.Join(dir, "image")))
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, rt.Close())
		}
	}()
	spec.Image = bunfile.Image{
		DockerImage: fmt.Sprintf("budgie.example/replicated-web:%d", os.Getpid()),
		Pull:        bunfile.PullNever,
		Command:     []string{programInImage, "serve", "0.0.0.0"},
	}
	if err := rt.Supports(ctx, *spec); err != nil {
		return nil, err
	}
	img, err := imageOfSelf()
	if err != nil {
		return nil, fmt.Errorf("make an image of this program: %w", err)
	}
	var archive bytes.Buffer
	if err := img.Archive(&archive, spec.Image.DockerImage); err != nil {
		return nil, err
	}
	if _, err := rt.Import(ctx, &archive); err != nil {
		return nil, err
	}
	return func() error {
		return errors.Join(rt.RemoveImage(context.WithoutCancel(ctx), spec.Image.DockerImage), rt.Close())
	}, nil
}

// imageOfSelf makes an image of this program and of what it needs to run, which
// is nothing but itself where it was built without cgo.
func imageOfSelf() (ociimage.Image, error) {
	data, err := os.ReadFile(self)
	if err != nil {
		return ociimage.Image{}, err
	}
	files := map[string]ociimage.File{programInImage: {Data: data, Mode: 0o755}}
	var config ocispec.ImageConfig
	loader, err := loaderOf(data)
	if err == nil && loader != "" {
		err = addLibraries(files, loader, &config)
	}
	if err != nil {
		return ociimage.Image{}, err
	}
	return ociimage.New(files, config, "")
}

// loaderOf returns what loads a program's shared libraries, empty where it has
// none.
func loaderOf(program []byte) (string, error) {
	f, err := elf.NewFile(bytes.NewReader(program))
	if err != nil {
		return "", err
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			name, err := io.ReadAll(p.Open())
			return string(bytes.TrimRight(name, "\x00")), err
		}
	}
	return "", nil
}

// addLibraries adds the shared libraries that this program runs with at this
// moment, under the names by which the loader looks for them.
func addLibraries(files map[string]ociimage.File, loader string, config *ocispec.ImageConfig) error {
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return err
	}
	program, err := os.Readlink(self)
	if err != nil {
		return err
	}
	loaded := []string{loader}
	for line := range strings.Lines(string(maps)) {
		// addresses, permissions, offset, device, inode, path
		if f := strings.Fields(line); len(f) == 6 && strings.Contains(f[1], "x") && path.IsAbs(f[5]) && f[5] != program {
			loaded = append(loaded, f[5])
		}
	}
	var dirs []string
	for _, file := range slices.Compact(loaded) {
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		name := file
		if lib, err := elf.NewFile(bytes.NewReader(data)); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		} else if names, _ := lib.DynString(elf.DT_SONAME); len(names) > 0 && file != loader {
			name = path.Join(path.Dir(file), names[0])
		}
		files[name] = ociimage.File{Data: data, Mode: 0o755}
		if dir := path.Dir(name); !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	config.Env = append(config.Env, "LD_LIBRARY_PATH="+strings.Join(dirs, ":"))
	return nil
}
