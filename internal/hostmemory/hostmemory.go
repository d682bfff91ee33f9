// Package hostmemory tells how much memory the machine has.
package hostmemory

// Cap returns a limit in bytes, or the machine's memory where that is less, or
// limit is 0 for none. Where the machine does not tell, limit stays as it is.
func Cap(limit uint64) uint64 {
	if all := total(); all > 0 && (limit == 0 || limit > all) {
		return all
	}
	return limit
}
