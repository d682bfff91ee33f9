//go:build !linux

package watch

import "github.com/budgiehq/budgie/replica/watch/internal/hints"

// New watches the tree below the directory root until Close. It fails only if
// root cannot be resolved or is no directory; where the tree is there but
// cannot be watched, batches say so.
func New(root string, opts ...Option) (Watcher, error) {
	return newPortable(root, newConfig(opts), hints.Open)
}
