package bunfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strings"
)

// Load reads the .bun file at path, as Parse does, and resolves what is
// relative to the file's directory: the sources of volumes become absolute,
// and so does the program of a container without image that starts with ./ or
// ../ . The lines of EnvFile are merged into Environment, where Environment's
// own entries win, and EnvFile becomes empty, so that the Spec needs no other
// file. Whether volume sources exist is not looked at.
//
// A file that cannot be read gives an error that wraps the cause (fs.ErrNotExist
// and so on); wrong text gives Errors, those of the .bun file before those of
// its env_files. Only regular files are read, and of them at most MaxSize bytes.
func Load(path string) ([]Spec, error) {
	data, err := readText(path)
	if err != nil {
		return nil, fmt.Errorf("cannot load the .bun file: %w%s", err, loadHint(path, err))
	}
	f, failure := parseFile(path, data, true)
	if failure != nil {
		return nil, Errors{failure}
	}
	full, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("cannot resolve the paths of %s: %w", path, err)
	}
	dir := filepath.Dir(full)
	inEnvFiles := f.mergeEnvFiles(dir)
	if errs := append(f.src.errors(f.problems), inEnvFiles...); len(errs) > 0 {
		return nil, errs
	}
	for i := range f.specs {
		resolve(&f.specs[i], dir)
	}
	return f.specs, nil
}

// resolve makes the paths of s absolute.
func resolve(s *Spec, dir string) {
	for i := range s.Volumes {
		s.Volumes[i].Source = absolute(dir, s.Volumes[i].Source)
	}
	if s.Image.DockerImage == "" && isRelativeProgram(s.Image.Command[0]) {
		s.Image.Command[0] = absolute(dir, s.Image.Command[0])
	}
}

func absolute(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

func isRelativeProgram(program string) bool {
	if goruntime.GOOS == "windows" {
		program = filepath.ToSlash(program)
	}
	return strings.HasPrefix(program, "./") || strings.HasPrefix(program, "../")
}

// mergeEnvFiles reads the env_files of the containers, each once. That one
// cannot be read is a problem of the .bun file; what is wrong in it is returned.
func (f *file) mergeEnvFiles(dir string) Errors {
	var errs Errors
	read := map[string]*envFile{}
	for i := range f.specs {
		s, d := &f.specs[i], f.decoders[i]
		if s.EnvFile == "" || slices.ContainsFunc(d.problems, func(p problem) bool { return p.path == "env_file" }) {
			continue
		}
		name := absolute(dir, s.EnvFile)
		e := read[name]
		if e == nil {
			e = readEnvFile(name)
			read[name] = e
			errs = append(errs, e.errs...)
		}
		if e.cause != nil {
			f.problems = append(f.problems, problem{pos: d.places["env_file"].pos, path: "env_file", message: e.cause.Error(), cause: e.cause,
				hint: "a relative path starts at the directory of the .bun file"})
		}
		s.Environment = mergeEnvironment(e.entries, s.Environment)
		s.EnvFile = ""
	}
	return errs
}

// envFile is an env_file that was read: its entries, what is wrong in it, or
// why it cannot be read.
type envFile struct {
	entries []string
	errs    Errors
	cause   error
}

func readEnvFile(name string) *envFile {
	data, err := readText(name)
	if err != nil {
		return &envFile{cause: err}
	}
	entries, errs := parseEnvFile(name, data)
	return &envFile{entries: entries, errs: errs}
}

// readText returns the bytes of a regular file of at most MaxSize.
func readText(path string) ([]byte, error) {
	f, err := openNonblocking(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	switch mode := info.Mode(); {
	case mode.IsDir():
		return nil, &fs.PathError{Op: "read", Path: path, Err: errDirectory}
	case !mode.IsRegular():
		return nil, &fs.PathError{Op: "read", Path: path, Err: fmt.Errorf("%w (%s)", errNotRegular, mode.Type())}
	}
	// The size may be wrong by now, or a lie as in /proc.
	data, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	if err != nil {
		return nil, err
	}
	if len(data) > MaxSize {
		return nil, &fs.PathError{Op: "read", Path: path, Err: fmt.Errorf("the file has more than %d bytes: %w", MaxSize, ErrTooLarge)}
	}
	return data, nil
}

var (
	errDirectory  = errors.New("it is a directory")
	errNotRegular = errors.New("it is not a regular file")
)

// loadHint says what to do about a file that cannot be read.
func loadHint(path string, err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if _, statErr := os.Stat(path + ".bun"); statErr == nil {
			return "; did you mean " + path + ".bun?"
		}
		return "; check the path, which is relative to the working directory"
	case errors.Is(err, errDirectory):
		if files, _ := filepath.Glob(filepath.Join(escapeGlob(path), "*.bun")); len(files) > 0 {
			return "; name a file in it, such as " + files[0]
		}
		return "; name the .bun file itself"
	case errors.Is(err, fs.ErrPermission):
		return "; check its permissions and those of its directory"
	case errors.Is(err, ErrTooLarge):
		return "; is it the right file?"
	}
	return ""
}

// escapeGlob keeps the characters of path from being a pattern. Windows has no
// escapes in patterns, nor these characters often.
func escapeGlob(path string) string {
	if goruntime.GOOS == "windows" {
		return path
	}
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}
