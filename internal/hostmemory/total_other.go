//go:build !linux

package hostmemory

func total() uint64 { return 0 }
