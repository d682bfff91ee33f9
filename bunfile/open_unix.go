//go:build unix

package bunfile

import (
	"os"
	"syscall"
)

// openNonblocking opens a file for reading, and does not wait for a writer
// where it is a FIFO.
func openNonblocking(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0)
}
