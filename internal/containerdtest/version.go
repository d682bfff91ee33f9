//go:build linux

package containerdtest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A Version is a containerd that tests run. The zero value is what
// [VersionVariable] says.
type Version string

const (
	// Distribution is the one in PATH, as Debian has it: a 1.6.
	Distribution Version = "1"
	// Latest is the one that tools/setup.sh builds from tools/containerd: a 2.x.
	Latest Version = "2"
)

// VersionVariable is the environment variable that says, by "1" or "2", which
// containerd the tests run that do not run on both. Unset means 1.
const VersionVariable = "BUDGIE_TEST_CONTAINERD"

// EachVersion runs a test once with every containerd.
func EachVersion(t *testing.T, test func(t *testing.T, v Version)) {
	for _, v := range []Version{Distribution, Latest} {
		t.Run("containerd-"+string(v), func(t *testing.T) { test(t, v) })
	}
}

// resolve returns the version that is meant.
func (v Version) resolve() (Version, error) {
	if v == "" {
		v = Version(os.Getenv(VersionVariable))
	}
	switch v {
	case "":
		return Distribution, nil
	case Distribution, Latest:
		return v, nil
	}
	return "", fmt.Errorf("there is no containerd %q to test with; %s may be %s or %s", string(v), VersionVariable, Distribution, Latest)
}

// programs returns the daemon's program, and the directory with its shim, which
// is to be first in its PATH, empty where PATH is right as it is.
func (v Version) programs() (daemon, dir string, err error) {
	if v == Distribution {
		daemon, err = exec.LookPath("containerd")
		return daemon, "", err
	}
	root, err := moduleRoot()
	if err != nil {
		return "", "", err
	}
	const module = "github.com/containerd/containerd/v2"
	text, err := os.ReadFile(filepath.Join(root, "tools", "containerd", "go.mod"))
	if err != nil {
		return "", "", err
	}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(strings.TrimPrefix(strings.TrimSpace(line), "require "))
		if len(f) < 2 || f[0] != module {
			continue
		}
		dir := filepath.Join(root, "bin", "tools", "containerd-"+strings.TrimPrefix(f[1], "v"))
		for _, name := range []string{"containerd", "containerd-shim-runc-v2"} {
			if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
				return "", "", fmt.Errorf("containerd %s is not built: %w", f[1], err)
			}
		}
		return filepath.Join(dir, "containerd"), dir, nil
	}
	return "", "", errors.New("tools/containerd/go.mod names no version of " + module)
}

// moduleRoot is the directory of this module, in which the tests of all its
// packages run.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "tools", "containerd", "go.mod")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("no directory above this one has tools/containerd/go.mod")
		}
		dir = parent
	}
}
