//go:build !linux

package isolation

// Isolate does nothing where there are no namespaces.
func Isolate() {}

// Isolated is false where there are no namespaces.
func Isolated() bool { return false }

// Scope is empty where there are no namespaces.
func Scope() string { return "" }

// Begun is false here.
func Begun() bool { return false }
