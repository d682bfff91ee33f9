//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/budgiehq/budgie/internal/lan"
)

// user is who uses the laboratory, which is made for tests.
type user struct{ cleanups []func() }

var _ lan.TB = (*user)(nil)

// failure is why the laboratory ended its user.
type failure struct{ error }

// recover turns the end of the user into an error.
func (u *user) recover(err *error) {
	switch r := recover().(type) {
	case nil:
	case failure:
		*err = errors.Join(*err, r.error)
	default:
		panic(r)
	}
}

// Helper implements lan.TB.
func (u *user) Helper() {}

// Fatal implements lan.TB.
func (u *user) Fatal(args ...any) { panic(failure{errors.New(fmt.Sprint(args...))}) }

// Fatalf implements lan.TB.
func (u *user) Fatalf(format string, args ...any) { panic(failure{fmt.Errorf(format, args...)}) }

// Skip implements lan.TB.
func (u *user) Skip(args ...any) { u.Fatal(args...) }

// Cleanup implements lan.TB.
func (u *user) Cleanup(f func()) { u.cleanups = append(u.cleanups, f) }

// TempDir implements lan.TB. Its name is short, since there will be sockets in it.
func (u *user) TempDir() string {
	dir, err := os.MkdirTemp("", "join-") // goes with the process: see isolation
	if err != nil {
		u.Fatal(err)
	}
	return dir
}

// end undoes everything, the last thing first.
func (u *user) end() (err error) {
	defer u.recover(&err)
	for _, f := range slices.Backward(u.cleanups) {
		f()
	}
	return nil
}
