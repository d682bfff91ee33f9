//go:build !linux

package lan

// Isolate does nothing where there are no namespaces.
func Isolate(Roles) {}
