//go:build !unix

package runtimetest

import (
	"errors"
	"os"
	"syscall"
	"time"
)

func ownSession() *syscall.SysProcAttr { return nil }

func onResize(chan<- os.Signal) {}

func kill(int) error { return errors.ErrUnsupported }

func cpuTime() (time.Duration, error) { return 0, errors.ErrUnsupported }
