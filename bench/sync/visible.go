//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/budgiehq/budgie/internal/benchreport"
)

// arrivals says when names came into a directory. All that is measured here puts
// files there by renaming them, when they are complete.
type arrivals struct {
	fd *os.File
	wg sync.WaitGroup

	mu   sync.Mutex
	came map[string]time.Time
	// more gets a value when some came.
	more chan struct{}
}

func watchArrivals(dir string) (*arrivals, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("inotify_init1", err)
	}
	a := &arrivals{fd: os.NewFile(uintptr(fd), "inotify"), came: make(map[string]time.Time), more: make(chan struct{}, 1)}
	if _, err := unix.InotifyAddWatch(fd, dir, unix.IN_MOVED_TO); err != nil {
		return nil, errors.Join(os.NewSyscallError("inotify_add_watch", err), a.fd.Close())
	}
	a.wg.Go(a.read)
	return a, nil
}

func (a *arrivals) read() {
	buf := make([]byte, 64<<10)
	for {
		n, err := a.fd.Read(buf)
		if err != nil {
			return // it is closed
		}
		now := time.Now()
		a.mu.Lock()
		for rest := buf[:n]; len(rest) >= unix.SizeofInotifyEvent; {
			end := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(rest[12:]))
			name, _, _ := bytes.Cut(rest[unix.SizeofInotifyEvent:end], []byte{0})
			if _, known := a.came[string(name)]; !known {
				a.came[string(name)] = now
			}
			rest = rest[end:]
		}
		a.mu.Unlock()
		select {
		case a.more <- struct{}{}:
		default:
		}
	}
}

func (a *arrivals) close() {
	_ = a.fd.Close()
	a.wg.Wait()
}

// wait waits until all of some names have come, and returns how long after they
// were written.
func (a *arrivals) wait(ctx context.Context, written map[string]time.Time, patience time.Duration) (benchreport.Sample, error) {
	over := time.After(patience)
	for {
		var s benchreport.Sample
		a.mu.Lock()
		for name, at := range written {
			if came, ok := a.came[name]; ok {
				s = append(s, came.Sub(at))
			}
		}
		a.mu.Unlock()
		if len(s) == len(written) {
			return s, nil
		}
		select {
		case <-a.more:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-over:
			return nil, fmt.Errorf("only %d of %d files came within %s", len(s), len(written), patience)
		}
	}
}

// fresh is the directory in which files are written.
const fresh = "fresh"

// writer writes small files.
type writer struct {
	dir string
	n   int
}

func (wr *writer) write(into map[string]time.Time) error {
	name := fmt.Sprint("new", wr.n)
	wr.n++
	into[name] = time.Now()
	return os.WriteFile(filepath.Join(wr.dir, name), bytes.Repeat([]byte(name), 100), 0o644)
}

// watchVisible measures how soon what is written in src is seen in dst, which is
// kept up to date by somebody.
func (w *world) watchVisible(src, dst string) (v visible, err error) {
	a, err := watchArrivals(filepath.Join(dst, fresh))
	if err != nil {
		return visible{}, err
	}
	defer a.close()
	wr := &writer{dir: filepath.Join(src, fresh), n: int(time.Now().UnixNano() / 1000)}
	for range w.settings.idle {
		written := make(map[string]time.Time)
		if err := wr.write(written); err != nil {
			return visible{}, err
		}
		s, err := a.wait(w.ctx, written, 30*time.Second)
		if err != nil {
			return visible{}, err
		}
		v.idle = append(v.idle, s...)
		time.Sleep(100 * time.Millisecond)
	}
	written := make(map[string]time.Time)
	began := time.Now()
	for i := range w.settings.burst {
		time.Sleep(time.Until(began.Add(time.Duration(i) * time.Millisecond)))
		if err := wr.write(written); err != nil {
			return visible{}, err
		}
	}
	v.took = time.Since(began)
	v.burst, err = a.wait(w.ctx, written, time.Minute)
	return v, err
}

// keeper is who keeps a copy up to date.
type keeper struct {
	name string
	keep func(src, dst string) (end func(), err error)
}

// measureVisible measures that for all who keep a copy. It does without those that
// do not come to it.
func (w *world) measureVisible(r *result) error {
	for _, by := range []keeper{
		{nameBudgie, w.keepByBudgie},
		{"lsyncd, which starts rsync, with `delay = 0`", w.keepByLsyncd},
		{"syncthing, with `fsWatcherDelayS` 1, the least that counts", w.keepBySyncthing},
	} {
		say("from a write to its being seen: %s", by.name)
		v, err := w.seenBy(by)
		if err != nil && (by.name == nameBudgie || w.ctx.Err() != nil) {
			return fmt.Errorf("%s: %w", by.name, err)
		}
		v.name, v.failed = by.name, err
		r.visible = append(r.visible, v)
	}
	return nil
}

// seenBy measures it for one of them, on a tree of which there is a copy already.
func (w *world) seenBy(by keeper) (visible, error) {
	src, dst := filepath.Join(w.base, "seen"), filepath.Join(w.base, "seen-copy")
	defer func() { _ = errors.Join(forget(dst), os.RemoveAll(src)) }() // with the rest at the latest
	if _, err := grow(src, w.settings.files, smallSize, 0); err != nil {
		return visible{}, err
	}
	if err := os.Mkdir(filepath.Join(src, fresh), 0o755); err != nil {
		return visible{}, err
	}
	if out, err := exec.CommandContext(w.ctx, "rsync", "-aHAX", src+"/", dst+"/").CombinedOutput(); err != nil {
		return visible{}, fmt.Errorf("%w: %s", err, out)
	}
	end, err := by.keep(src, dst)
	if err != nil {
		return visible{}, err
	}
	defer end()
	return w.watchVisible(src, dst)
}

func (w *world) keepByBudgie(src, dst string) (func(), error) {
	f, err := w.follow(src, dst)
	if err != nil {
		return nil, err
	}
	return f.end, nil
}
