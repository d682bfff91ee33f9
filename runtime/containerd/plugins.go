//go:build linux

package containerd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/types"
	"golang.org/x/sys/unix"
)

// pluginLockEvery is how often to try the lock of a container's network.
const pluginLockEvery = 5 * time.Millisecond

// lockNetwork waits until no plugin works on a container's network, and keeps
// others from it until the file is closed. Plugins inherit it: those whose
// supervisor was killed go on, and the next one must not undo what they have
// not yet done.
func (r *Runtime) lockNetwork(ctx context.Context, id string) (*os.File, error) {
	return lockFile(ctx, r.path(id, "network"))
}

// lockFile waits for the lock of a file, which lives until it is closed by all
// that have it open.
func lockFile(ctx context.Context, path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return nil, errors.Join(err, f.Close())
		}
		if ctx.Err() != nil {
			return nil, errors.Join(fmt.Errorf("wait for another program, which may be a network plugin of one that was killed: %w", context.Cause(ctx)), f.Close())
		}
		pause(ctx, pluginLockEvery)
	}
}

// lockOnce is lockFile with a file that release removes. Whoever waited for it
// finds that it is not the one of that name any more, and begins again.
func lockOnce(ctx context.Context, path string) (release func(), _ error) {
	for {
		f, err := lockFile(ctx, path)
		if err != nil {
			return nil, err
		}
		held, herr := f.Stat()
		named, nerr := os.Stat(path)
		if herr == nil && nerr == nil && os.SameFile(held, named) {
			return func() {
				_ = os.Remove(path) // one that stays is an empty file that the next one takes
				f.Close()
			}, nil
		}
		f.Close()
	}
}

// pluginWaitDelay is how long the output of a plugin that has ended is waited for:
// what it started itself may hold it, and on a machine that is very busy it takes
// a while to be read.
const pluginWaitDelay = 5 * time.Second

// pluginExec runs plugins that hold the lock of the network that they work on.
type pluginExec struct {
	*invoke.DefaultExec
	lock *os.File
}

// ExecPlugin runs a plugin. One says what is wrong in its result.
func (e *pluginExec) ExecPlugin(ctx context.Context, path string, stdin []byte, env []string) ([]byte, error) {
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, path)
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.ExtraFiles = env, bytes.NewReader(stdin), &out, []*os.File{e.lock}
	cmd.WaitDelay = pluginWaitDelay
	err := cmd.Run()
	if err == nil {
		return out.Bytes(), nil
	}
	said := &types.Error{}
	if json.Unmarshal(out.Bytes(), said) == nil && said.Msg != "" {
		err = said
	}
	return nil, fmt.Errorf("plugin %s: %w", path, err)
}
