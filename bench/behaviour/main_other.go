//go:build !linux

package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "behaviour: the proxies are controlled by signals and /proc: run it on Linux")
	os.Exit(1)
}
