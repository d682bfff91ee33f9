//go:build !linux

package containerdtest

// Isolate does nothing where there is no containerd.
func Isolate() {}
