//go:build !linux

package replica

import (
	"errors"
	"io/fs"
	"os"
)

// nameInfo and readName are for Linux: elsewhere all goes by way of the root.
type nameInfo struct{}

func (*nameInfo) of(*os.File, string) (fs.FileInfo, error) { return nil, errors.ErrUnsupported }

func readName(*os.File, string, fs.FileInfo, []byte) ([]byte, error) {
	return nil, errors.ErrUnsupported
}
