//go:build !unix

// Command containerprogram is a test program for Linux containers.
package main

func main() {}
