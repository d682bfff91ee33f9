package budgie

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/budgiehq/budgie/internal/ownership"
	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/store"
)

// runDetached stores what is wanted and waits until the supervisor has made it
// so.
func (c *Client) runDetached(ctx context.Context, rec lifecycle.Container, rc runConfig) (lifecycle.Container, error) {
	rec.Owner = supervisorOwner
	rec, err := c.insert(ctx, rec)
	if err != nil {
		// What is there already may be an orphan, and this the attempt to bring
		// it back.
		if work, workErr := c.hasWork(ctx); workErr == nil && work {
			err = errors.Join(err, c.ensureSupervisor(ctx))
		}
		return lifecycle.Container{}, err
	}
	id, timedOut, ends := rec.ID, false, 0
	waitCtx, cancel := context.WithTimeout(ctx, rc.readyTimeout)
	defer cancel()
	err = c.follow(waitCtx, id, func(r lifecycle.Container) (bool, error) {
		rec = r
		if r.Ready || r.Finished() {
			return true, nil
		}
		if n := earlyEnds(r); n > ends && rc.onRestart != nil {
			rc.onRestart(r)
			ends = n
		}
		return false, c.ensureSupervisor(waitCtx)
	})
	undo := context.WithoutCancel(ctx)
	switch {
	case err == nil && (rec.Ready || jobDone(rec)):
		return rec, nil
	case ctx.Err() != nil:
		return lifecycle.Container{}, errors.Join(fmt.Errorf("run container %s: %w", rec.Name, context.Cause(ctx)), c.giveUp(undo, id))
	case errors.Is(err, store.ErrNotFound):
		return lifecycle.Container{}, fmt.Errorf("run container %s: it was removed before it was ready: %w", rec.Name, err)
	case waitCtx.Err() != nil:
		timedOut = true
		err = nil
	}
	tail := c.logTail(undo, rec, logTailLines)
	if giveUpErr := c.giveUp(undo, id); err != nil || giveUpErr != nil {
		return lifecycle.Container{}, errors.Join(err, giveUpErr)
	}
	reason := rec.EndReason()
	if timedOut {
		reason = notReadyWithin(rc.readyTimeout, rec)
	}
	return lifecycle.Container{}, &NotReadyError{Container: rec, Reason: reason, Log: tail}
}

// earlyEnds counts the ends of a container that has yet to become ready.
func earlyEnds(rec lifecycle.Container) int {
	if rec.State == lifecycle.Stopped {
		return rec.Restarts + 1 // it waits for the next start
	}
	return rec.Restarts
}

// giveUp stops a detached container that did not become ready.
func (c *Client) giveUp(ctx context.Context, id string) error {
	err := c.stopRecord(ctx, lifecycle.Container{ID: id}, nil)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}

// ensureSupervisor starts a supervisor for the data directory if none is
// alive, and returns when one is. Of several that are started at the same time
// one stays.
func (c *Client) ensureSupervisor(ctx context.Context) error {
	alive, err := c.isSupervised(ctx)
	if err != nil || alive {
		return err
	}
	if len(c.cfg.supervisorCmd) == 0 {
		return fmt.Errorf("%w for %s: start one with \"budgie supervise\" or Client.Supervise, or give the client a WithSupervisorCommand", ErrNoSupervisor, c.cfg.dataDir)
	}
	log, err := openSupervisorLog(filepath.Join(c.cfg.dataDir, "supervisor.log"))
	if err != nil {
		return fmt.Errorf("start supervisor: %w", err)
	}
	defer func() { _ = log.Close() }()

	cmd := exec.Command(c.cfg.supervisorCmd[0], c.cfg.supervisorCmd[1:]...)
	cmd.Env = append(supervisorEnv(os.Environ()), "BUDGIE_DATA_DIR="+c.cfg.dataDir)
	if c.cfg.tokenOrigin != "" {
		cmd.Env = append(cmd.Env, tokenVariable+"="+c.cfg.token.Reveal())
	}
	cmd.Dir = string(filepath.Separator)
	cmd.Stdout, cmd.Stderr = log.File, log.File
	cmd.SysProcAttr = ownSession()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start supervisor: %w", err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }() // ends with the supervisor, which may outlive the client
	return c.awaitSupervisor(ctx, exited, log)
}

// isSupervised reports whether a supervisor is alive, or is being replaced.
func (c *Client) isSupervised(ctx context.Context) (bool, error) {
	alive, err := c.store.Alive(ctx, supervisorOwner)
	if err != nil || alive {
		return alive, err
	}
	return c.store.Alive(ctx, handOverOwner)
}

// awaitSupervisor returns when a supervisor is alive, or the started one ended
// in failure. One that ends well found another, or had nothing left to do.
func (c *Client) awaitSupervisor(ctx context.Context, exited <-chan error, log *supervisorLog) error {
	const look = 5 * time.Millisecond
	for {
		if alive, err := c.isSupervised(ctx); err != nil || alive {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-exited:
			if err == nil {
				return nil
			}
			return fmt.Errorf("the supervisor ended: %w%s", err, log.news())
		case <-time.After(look):
		}
	}
}

// supervisorEnv returns the environment of a supervisor: without what a
// container that starts one has been told of itself.
func supervisorEnv(env []string) []string {
	return slices.DeleteFunc(env, func(kv string) bool {
		key, _, _ := strings.Cut(kv, "=")
		return key == "PORT" || strings.HasPrefix(key, "BUDGIE_PORT_") ||
			slices.Contains([]string{"BUDGIE_CONTAINER_ID", "BUDGIE_ROOT", "BUDGIE_NAME"}, key)
	})
}

// supervisorLog is what supervisors of a data directory print.
type supervisorLog struct {
	*os.File
	path string
	// from is where what is printed from now on begins.
	from int64
}

// mostSupervisorLog is the size in bytes from which on the log begins anew.
const mostSupervisorLog = 1 << 20

func openSupervisorLog(path string) (*supervisorLog, error) {
	flags := os.O_CREATE | os.O_WRONLY | os.O_APPEND
	if st, err := os.Stat(path); err == nil && st.Size() > mostSupervisorLog {
		flags |= os.O_TRUNC
	}
	f, err := ownership.OpenFile(path, flags, 0o600)
	if err != nil {
		return nil, err
	}
	from, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &supervisorLog{File: f, path: path, from: from}, nil
}

// news returns the end of what was printed since the log was opened, indented,
// on lines of its own.
func (l *supervisorLog) news() string {
	const most = 2 << 10
	f, err := os.Open(l.path)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	from := l.from
	if st, err := f.Stat(); err == nil {
		from = max(from, st.Size()-most)
	}
	text, _ := io.ReadAll(io.NewSectionReader(f, from, most))
	if len(text) == 0 {
		return ""
	}
	return "\n  " + strings.ReplaceAll(strings.TrimSpace(string(text)), "\n", "\n  ")
}
