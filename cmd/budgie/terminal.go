package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"

	"github.com/budgiehq/budgie/runtime"
	"golang.org/x/term"
)

// userTerminal is the terminal that the user sits at, while something else than
// this program reads what is typed.
type userTerminal struct {
	mu sync.Mutex
	// state is what to go back to, nil where nothing is changed.
	state *term.State
}

// lend describes the user's terminal for a command to have the same, and keeps
// up with its size until restore is called. With raw set, what is typed, Ctrl-C
// included, reaches the command as it is, and nothing is done about it here.
func (u *userTerminal) lend(raw bool) (_ *runtime.TTY, restore func(), _ error) {
	fd := int(os.Stdin.Fd())
	if !term.IsTerminal(fd) {
		return nil, nil, errors.New("the standard input is no terminal, which -t needs: leave -t away, or run this from a terminal")
	}
	size, err := terminalSize(fd)
	if err != nil {
		return nil, nil, fmt.Errorf("find out the size of the terminal: %w", err)
	}
	changed := make(chan os.Signal, 1)
	onResize(changed)
	if raw {
		if err := u.makeRaw(fd); err != nil {
			signal.Stop(changed)
			return nil, nil, fmt.Errorf("let the command have the terminal: %w", err)
		}
	}
	dump := onQuit(u.restore)
	over := make(chan struct{})
	sizes := make(chan runtime.TTYSize)
	var wg sync.WaitGroup
	wg.Go(func() { followSize(fd, changed, sizes, over) })
	return &runtime.TTY{Size: size, Resizes: sizes}, func() {
		u.restore()
		dump()
		signal.Stop(changed)
		close(over)
		wg.Wait()
	}, nil
}

func (u *userTerminal) makeRaw(fd int) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	state, err := term.MakeRaw(fd)
	if err == nil {
		u.state = state
	}
	return err
}

// restore makes the terminal what it was. It may be called at any time.
func (u *userTerminal) restore() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.state != nil {
		_ = term.Restore(int(os.Stdin.Fd()), u.state) // or it has gone away
		u.state = nil
	}
}

func terminalSize(fd int) (runtime.TTYSize, error) {
	columns, rows, err := term.GetSize(fd)
	return runtime.TTYSize{Rows: uint16(rows), Columns: uint16(columns)}, err
}

// followSize sends the terminal's size whenever it has changed.
func followSize(fd int, changed <-chan os.Signal, sizes chan<- runtime.TTYSize, over <-chan struct{}) {
	for {
		select {
		case <-changed:
		case <-over:
			return
		}
		size, err := terminalSize(fd)
		if err != nil {
			continue
		}
		select {
		case sizes <- size:
		case <-over:
			return
		}
	}
}
