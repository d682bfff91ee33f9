//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"
)

// bed is what a laboratory wants of a test. Of testing.TB, which nothing but a
// test can have whole, it has what a laboratory uses.
type bed struct {
	testing.TB
	cleanups []func()
}

// failure is the panic by which a bed ends what runs in it.
type failure struct{ error }

// in runs do in a laboratory of its own.
func in(do func(*bed)) (err error) {
	t := &bed{}
	defer func() {
		for _, clean := range slices.Backward(t.cleanups) {
			clean()
		}
	}()
	defer func() {
		if p := recover(); p != nil {
			f, ok := p.(failure)
			if !ok {
				panic(p)
			}
			err = f.error
		}
	}()
	do(t)
	return nil
}

func (t *bed) Helper() {}

func (t *bed) Cleanup(do func()) { t.cleanups = append(t.cleanups, do) }

func (t *bed) Fatal(args ...any) { panic(failure{errors.New(fmt.Sprint(args...))}) }

func (t *bed) Fatalf(format string, args ...any) { panic(failure{fmt.Errorf(format, args...)}) }

func (t *bed) Skip(args ...any) { t.Fatal(args...) }

func (t *bed) TempDir() string {
	dir, err := os.MkdirTemp("", "discovery-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) }) // else it goes with the process
	return dir
}
