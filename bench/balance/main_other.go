//go:build !linux

package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "balance: there are no network namespaces on this operating system: run it on Linux")
	os.Exit(1)
}
