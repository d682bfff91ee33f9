package budgie

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/store"
)

// runDetached stores what is wanted and waits until the supervisor has made it
// so.
func (c *Client) runDetached(ctx context.Context, rec lifecycle.Container, rc runConfig) (lifecycle.Container, error) {
	rec.Owner = supervisorOwner
	rec, err := c.insert(ctx, rec)
	if err != nil {
		return lifecycle.Container{}, err
	}
	id, timedOut := rec.ID, false
	waitCtx, cancel := context.WithTimeout(ctx, rc.readyTimeout)
	defer cancel()
	err = c.follow(waitCtx, id, func(r lifecycle.Container) (bool, error) {
		rec = r
		if r.Ready || r.Finished() {
			return true, nil
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
		reason = notReadyWithin(rc.readyTimeout)
	}
	return lifecycle.Container{}, &NotReadyError{Container: rec, Reason: reason, Log: tail}
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
	alive, err := c.store.Alive(ctx, supervisorOwner)
	if err != nil || alive {
		return err
	}
	if len(c.cfg.supervisorCmd) == 0 {
		return fmt.Errorf("%w for %s: start one with \"budgie supervise\" or Client.Supervise, or give the client a WithSupervisorCommand", ErrNoSupervisor, c.cfg.dataDir)
	}
	logPath := filepath.Join(c.cfg.dataDir, "supervisor.log")
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("start supervisor: %w", err)
	}
	defer func() { _ = log.Close() }()

	cmd := exec.Command(c.cfg.supervisorCmd[0], c.cfg.supervisorCmd[1:]...)
	cmd.Env = append(os.Environ(), "BUDGIE_DATA_DIR="+c.cfg.dataDir)
	cmd.Dir = string(filepath.Separator)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = ownSession()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start supervisor: %w", err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }() // ends with the supervisor, which may outlive the client
	return c.awaitSupervisor(ctx, exited, logPath)
}

// awaitSupervisor returns when a supervisor is alive, or the started one ended
// in failure. One that ends well found another, or had nothing left to do.
func (c *Client) awaitSupervisor(ctx context.Context, exited <-chan error, logPath string) error {
	const look = 5 * time.Millisecond
	for {
		if alive, err := c.store.Alive(ctx, supervisorOwner); err != nil || alive {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-exited:
			if err == nil {
				return nil
			}
			return fmt.Errorf("the supervisor ended: %w%s", err, tailOf(logPath))
		case <-time.After(look):
		}
	}
}

// tailOf returns the end of a log file, indented, on lines of its own.
func tailOf(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	const most = 2 << 10
	if st, err := f.Stat(); err == nil && st.Size() > most {
		_, _ = f.Seek(-most, io.SeekEnd)
	}
	text, _ := io.ReadAll(io.LimitReader(f, most))
	if len(text) == 0 {
		return ""
	}
	return "\n  " + strings.ReplaceAll(strings.TrimSpace(string(text)), "\n", "\n  ")
}
