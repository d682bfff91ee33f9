//go:build !linux

package replicatest

func xattrsOf(string) (map[string]string, error) { return nil, nil }

func setXattrs(string, map[string]string) error { return nil }

func replaceXattrs(string, map[string]string) error { return nil }
