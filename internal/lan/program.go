//go:build linux

package lan

import (
	"errors"
	"fmt"
	"os"
	"slices"
)

// In has a program that is no test use laboratories: do gets what stands for the
// test, which it may use until it returns. The error is that of do, or the one
// with which a laboratory ended it. Names of temporary directories begin with
// prefix, which should be short, since there will be sockets in them.
func In(prefix string, do func(TB) error) (err error) {
	p := &program{prefix: prefix}
	defer func() { err = errors.Join(err, p.end()) }()
	defer p.recover(&err)
	return do(p)
}

// program stands for a test.
type program struct {
	prefix   string
	cleanups []func()
}

// failure is the panic by which a laboratory ends what uses it.
type failure struct{ error }

// recover turns such an end into an error.
func (p *program) recover(err *error) {
	switch r := recover().(type) {
	case nil:
	case failure:
		*err = errors.Join(*err, r.error)
	default:
		panic(r)
	}
}

// end undoes everything, the last thing first.
func (p *program) end() (err error) {
	defer p.recover(&err)
	for _, f := range slices.Backward(p.cleanups) {
		f()
	}
	return nil
}

// Helper implements TB.
func (p *program) Helper() {}

// Fatal implements TB.
func (p *program) Fatal(args ...any) { panic(failure{errors.New(fmt.Sprint(args...))}) }

// Fatalf implements TB.
func (p *program) Fatalf(format string, args ...any) { panic(failure{fmt.Errorf(format, args...)}) }

// Skip implements TB.
func (p *program) Skip(args ...any) { p.Fatal(args...) }

// Cleanup implements TB.
func (p *program) Cleanup(f func()) { p.cleanups = append(p.cleanups, f) }

// TempDir implements TB. The directory goes with the process: see Isolate.
func (p *program) TempDir() string {
	dir, err := os.MkdirTemp("", p.prefix)
	if err != nil {
		p.Fatal(err)
	}
	return dir
}
