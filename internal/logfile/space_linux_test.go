package logfile

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/budgiehq/budgie/internal/testenv"
	"github.com/budgiehq/budgie/runtime"
	"golang.org/x/sys/unix"
)

// smallDisk mounts a file system of its own.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	testenv.NeedRoot(t)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=0700,size="+size); err != nil {
		testenv.Skip(t, fmt.Sprintf("cannot mount a tmpfs: %v", err))
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return dir
}

// TestSmallDisk: whatever a container writes, there is room to store that it
// is to be stopped.
func TestSmallDisk(t *testing.T) {
	for name, limit := range map[string]Limit{"many segments": {Bytes: 64 << 10, Files: 1000}, "one segment": {}} {
		t.Run(name, func(t *testing.T) {
			disk := smallDisk(t, "1m")
			dir := filepath.Join(disk, "log")
			w := newWriter(t, dir, limit)
			defer w.Close()
			line := strings.Repeat("y", 99) + "\n"
			var full error
			for range 500 {
				if err := w.Write(runtime.Stdout, time.Now(), []byte(strings.Repeat(line, 100))); err != nil {
					full = err
				}
			}
			if name == "one segment" && !errors.Is(full, syscall.ENOSPC) || name != "one segment" && full != nil {
				t.Errorf("5 MB in 1 MiB: %v", full)
			}
			if err := os.WriteFile(filepath.Join(disk, "state"), make([]byte, 40<<10), 0o600); err != nil {
				t.Errorf("there is no room for others: %v", err)
			}
			if n := len(read(t, dir, Options{})); n < 1000 {
				t.Errorf("%d lines were kept", n)
			}
		})
	}
}

// TestDiskFilledByOthers: a write that fails for want of room succeeds after an
// old segment was given up, and the log is sound.
func TestDiskFilledByOthers(t *testing.T) {
	disk := smallDisk(t, "512k")
	dir := filepath.Join(disk, "log")
	w := newWriter(t, dir, Limit{Bytes: 64 << 10, Files: 3})
	defer w.Close()
	w.space = func(string) (uint64, uint64, bool) { return 0, 0, false }
	line := strings.Repeat("z", 999) + "\n"
	write(t, w, runtime.Stdout, strings.Repeat(line, 100))
	if err := os.WriteFile(filepath.Join(disk, "ballast"), make([]byte, 1<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("the disk is not full: %v", err)
	}
	write(t, w, runtime.Stdout, strings.Repeat(line, 40))
	if all, _ := segments(dir); all[0] == 1 {
		t.Errorf("the segments are %v", all)
	}
	for _, e := range read(t, dir, Options{}) {
		if e != "stdout "+line[:999] {
			t.Fatalf("read %.60q", e)
		}
	}
}
