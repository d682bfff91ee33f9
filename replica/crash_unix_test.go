//go:build unix

package replica_test

import (
	"os/exec"
	"os/signal"
	"strconv"
	"syscall"
)

func socketPair() ([2]int, error) { return syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0) }

// limitFileSize makes the process unable to write files beyond a size.
func limitFileSize(size string) error {
	if size == "" {
		return nil
	}
	n, err := strconv.ParseUint(size, 10, 63)
	if err != nil {
		return err
	}
	signal.Ignore(syscall.SIGXFSZ) // so that write returns the error
	return syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: n, Max: n})
}

func asNobody(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
}
