package runtimetest

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/term"
)

// onTerminal is the verb "tty".
func onTerminal(code int) error {
	resized := make(chan os.Signal, 16)
	onResize(resized)
	for _, f := range []*os.File{os.Stdin, os.Stdout, os.Stderr} {
		if !term.IsTerminal(int(f.Fd())) {
			return fmt.Errorf("%s is no terminal", f.Name())
		}
	}
	if err := printSize("terminal"); err != nil {
		return err
	}
	fmt.Println("TERM is", os.Getenv("TERM"))
	lines := make(chan string)
	go func() {
		defer close(lines)
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
			lines <- in.Text()
		}
	}()
	for {
		select {
		case <-resized:
			if err := printSize("resized"); err != nil {
				return err
			}
		case line, more := <-lines:
			if !more {
				fmt.Println("input is over")
				os.Exit(code)
			}
			fmt.Printf("got %q\n", line)
		}
	}
}

func printSize(what string) error {
	columns, rows, err := term.GetSize(int(os.Stdout.Fd()))
	if err != nil {
		return err
	}
	fmt.Printf("%s %dx%d\n", what, rows, columns)
	return nil
}

// What "burn" uses.
const (
	burntTime   = 200 * time.Millisecond
	burntMemory = 32 << 20
)

// burn is the verb "burn".
func burn() error {
	memory := make([]byte, burntMemory)
	for n := 0; ; n++ {
		for i := 0; i < len(memory); i += 512 {
			memory[i] += byte(n)
		}
		if used, err := cpuTime(); err != nil || used >= burntTime {
			if err != nil {
				return err
			}
			break
		}
	}
	fmt.Println("burnt")
	_, err := io.Copy(io.Discard, os.Stdin)
	memory[0]++ // so that it is there until now
	return err
}
