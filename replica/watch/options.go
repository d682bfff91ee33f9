package watch

import "time"

// Defaults of the options.
const (
	// DefaultQuiet is how long nothing happens before a batch is sent.
	DefaultQuiet = 50 * time.Millisecond
	// DefaultMaxDelay is how long a change waits for the tree to become quiet.
	DefaultMaxDelay = 500 * time.Millisecond
	// DefaultMaxDirs is how many dirty directories are remembered by name.
	DefaultMaxDirs = 8192
	// DefaultFallback is how often everything is reported while the tree
	// cannot be watched.
	DefaultFallback = 10 * time.Second
)

// checkEvery is how often a watcher looks whether its root is still there, and
// the least time between two beginnings.
const checkEvery = time.Second

// bytesPerDir is how long the paths of dirty directories may be on average.
const bytesPerDir = 512

// Option changes what [New] makes.
type Option func(*config)

type config struct {
	quiet, maxDelay, fallback, check time.Duration
	maxDirs                          int
}

func newConfig(opts []Option) config {
	c := config{quiet: DefaultQuiet, maxDelay: DefaultMaxDelay, fallback: DefaultFallback, check: checkEvery, maxDirs: DefaultMaxDirs}
	for _, o := range opts {
		o(&c)
	}
	return c
}

// WithQuiet sets how long nothing must have happened before a batch is sent.
// Zero or less sends each change as soon as there is a receiver.
func WithQuiet(d time.Duration) Option { return func(c *config) { c.quiet = d } }

// WithMaxDelay sets how long a change waits at most for the tree to become
// quiet.
func WithMaxDelay(d time.Duration) Option { return func(c *config) { c.maxDelay = d } }

// WithMaxDirs sets how many dirty directories are remembered by name; with more
// of them, or with paths of more than 512 bytes on average, a batch says
// "everything". Less than 1 counts as 1.
func WithMaxDirs(n int) Option { return func(c *config) { c.maxDirs = max(n, 1) } }

// WithFallback sets how often everything is reported while the tree cannot be
// watched, and on systems other than Linux always. Less than a millisecond
// counts as one.
func WithFallback(d time.Duration) Option {
	return func(c *config) { c.fallback = max(d, time.Millisecond) }
}
