package trust

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/budgiehq/budgie/internal/hostdir"
)

// mostSecret bounds the size in bytes of a file with a secret.
const mostSecret = 64 << 10

// readSecret returns the content of a file that only its owner can read, and
// whose owner is this process's user: what somebody else could have written
// there would decide whom to trust. Root may also use what belongs to the owner
// of the directory. The error is fs.ErrNotExist, or ErrUnusable with what to
// do.
func readSecret(path string) ([]byte, error) {
	unusable := func(why string) ([]byte, error) { return nil, fmt.Errorf("%s %w: %s", path, ErrUnusable, why) }
	seen, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err != nil {
		return unusable(err.Error() + advice(err))
	}
	if !seen.Mode().IsRegular() {
		return unusable(fmt.Sprintf("it is not a regular file (%s): move it away, or put a copy of what it stands for in its place", kind(seen.Mode())))
	}
	f, err := os.OpenFile(path, os.O_RDONLY|noFollow, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err != nil {
		return unusable(err.Error() + advice(err))
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return unusable(err.Error())
	}
	if !info.Mode().IsRegular() { // put there since the look
		return unusable("it is not a regular file (" + kind(info.Mode()) + ")")
	}
	if why := notPrivate(info, filepath.Dir(path)); why != "" {
		return unusable(why)
	}
	text, err := io.ReadAll(io.LimitReader(f, mostSecret+1))
	if err != nil {
		return unusable(err.Error())
	}
	if len(text) > mostSecret {
		return unusable(fmt.Sprintf("it is larger than %d bytes, so it is something else: move it away", mostSecret))
	}
	return text, nil
}

// advice says what to do about an error, where that is plain.
func advice(err error) string {
	if errors.Is(err, fs.ErrPermission) {
		return "; run as the user who owns the data directory, or set BUDGIE_DATA_DIR to another one"
	}
	return ""
}

func kind(m fs.FileMode) string {
	switch m.Type() {
	case fs.ModeSymlink:
		return "a symbolic link"
	case fs.ModeDir:
		return "a directory"
	case fs.ModeNamedPipe:
		return "a pipe"
	}
	return m.Type().String()
}

// createSecret makes a file of mode 0600 that survives a crash, unless there is
// one already.
func createSecret(path string, text []byte) error {
	err := hostdir.CreateFile(path, text)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err == nil {
		err = hostdir.Sync(filepath.Dir(path))
	}
	if err != nil {
		return fmt.Errorf("write %s: %w%s", path, err, advice(err))
	}
	return nil
}

// replaceSecret puts a file of mode 0600 in the place of whatever is there, so
// that it survives a crash.
func replaceSecret(path string, text []byte) error {
	err := hostdir.WriteFile(path, text)
	if err == nil {
		err = hostdir.Sync(filepath.Dir(path))
	}
	if err != nil {
		return fmt.Errorf("write %s: %w%s", path, err, advice(err))
	}
	return nil
}
