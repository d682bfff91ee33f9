//go:build !unix

package runtimetest

import "syscall"

func ownSession() *syscall.SysProcAttr { return nil }
