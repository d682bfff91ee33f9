//go:build !linux

package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "join: there is no containerd on this operating system: run it on Linux")
	os.Exit(1)
}
