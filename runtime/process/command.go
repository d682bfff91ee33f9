//go:build linux || darwin

package process

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// lookCommand returns the absolute path of a command. A name without a slash
// is looked for in pathVar; a relative one begins at dir.
func lookCommand(name, pathVar, dir string) (string, error) {
	if strings.Contains(name, "/") {
		if !filepath.IsAbs(name) {
			if err := checkExecutable(filepath.Join(dir, name)); err != nil {
				return "", fmt.Errorf("command %q, which begins at the working directory, %w", name, err)
			}
			return filepath.Join(dir, name), nil
		}
		if err := checkExecutable(name); err != nil {
			return "", fmt.Errorf("command %q %w", name, err)
		}
		return name, nil
	}
	var unfit error
	for _, d := range filepath.SplitList(pathVar) {
		// An empty or relative element means the current directory, which is a
		// different one for the program that looks and the process that runs.
		if !filepath.IsAbs(d) {
			continue
		}
		p := filepath.Join(d, name)
		err := checkExecutable(p)
		if err == nil {
			return p, nil
		}
		// A directory that may not be entered is passed over, as shells do; a file
		// that is there and cannot be run is what was probably meant.
		if _, serr := os.Stat(p); serr == nil && unfit == nil {
			unfit = fmt.Errorf("command %q: %s %w", name, p, err)
		}
	}
	if unfit != nil {
		return "", unfit
	}
	return "", fmt.Errorf("command %q not found in PATH (%s): install it, or give its absolute path", name, pathVar)
}

// checkExecutable says why a file cannot be run. The texts continue a sentence
// that begins with the file's name.
func checkExecutable(path string) error {
	info, err := os.Stat(path)
	switch {
	case os.IsNotExist(err):
		return fmt.Errorf("does not exist: %w", os.ErrNotExist)
	case err != nil:
		return fmt.Errorf("cannot be looked at: %w", err)
	case info.IsDir():
		return fmt.Errorf("is a directory")
	case !info.Mode().IsRegular():
		return fmt.Errorf("is not a regular file")
	case info.Mode()&0o111 == 0 || unix.Access(path, unix.X_OK) != nil:
		return fmt.Errorf("is not executable: chmod +x it")
	}
	return nil
}
