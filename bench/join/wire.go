package main

import (
	"fmt"
	"strconv"
	"strings"
)

// received returns how many bytes a network interface has received, by what
// proc(5) calls /proc/net/dev.
func received(text, nic string) (int64, error) {
	for line := range strings.Lines(text) {
		name, counters, found := strings.Cut(line, ":")
		if !found || strings.TrimSpace(name) != nic {
			continue
		}
		if f := strings.Fields(counters); len(f) == 16 {
			return strconv.ParseInt(f[0], 10, 64)
		}
		return 0, fmt.Errorf("the counters of %s are %q", nic, counters)
	}
	return 0, fmt.Errorf("there is no network interface %s", nic)
}
