//go:build !unix

package bunfile

import "os"

// openNonblocking opens a file for reading. Without Unix there are no FIFOs in
// the file system that could make it wait.
func openNonblocking(path string) (*os.File, error) { return os.Open(path) }
