//go:build !unix

package replica

import (
	"errors"
	"os"
)

// setLinkTime is not needed where volumes cannot be received.
func setLinkTime(*os.File, string, int64) error { return errors.ErrUnsupported }
