//go:build !unix

package replica

import (
	"errors"
	"os"
)

func renameBetween(*os.File, string, *os.File) error { return errors.ErrUnsupported }

func linkBetween(*os.File, string, *os.File) error { return errors.ErrUnsupported }
