package main

import "os"

// onResize does nothing: a console's size is not told by signals.
func onResize(chan<- os.Signal) {}

// onQuit does nothing: there is no such signal.
func onQuit(func()) (stop func()) { return func() {} }
