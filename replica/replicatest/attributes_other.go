//go:build !unix

package replicatest

import (
	"io/fs"
	"testing"
	"time"
)

func identify(fs.FileInfo) (owner, file string) { return "", "" }

func setLinkTime(string, time.Time) error { return nil }

func allocated(*testing.T, string) (int64, bool) { return 0, false }
