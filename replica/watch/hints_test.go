package watch

import "github.com/budgiehq/budgie/replica/watch/internal/hints"

// OpenPortable makes the watchers of systems other than Linux.
func OpenPortable(root string, opts ...Option) (Watcher, error) {
	return newPortable(root, newConfig(opts), hints.Open)
}
