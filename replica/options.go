package replica

import (
	"log/slog"
	"time"

	"github.com/budgiehq/budgie/replica/internal/delta"
)

// Defaults of the options.
const (
	// DefaultScan is how often all of a volume is looked at, beside watching it.
	DefaultScan = 10 * time.Minute
	// DefaultMaxLoss is which share of a copy's files its source may remove at a
	// time without a person's consent.
	DefaultMaxLoss = 0.5
	// DefaultKeepAge and DefaultKeepSize are how long, and how many bytes of,
	// replaced and removed files are kept.
	DefaultKeepAge  = 24 * time.Hour
	DefaultKeepSize = 1 << 30
)

// Option changes how a Copier works.
type Option func(*Copier)

// WithLogger makes the Copier say what it does, at debug level, and what a person
// should know, at warning level. Without it the Copier is silent.
func WithLogger(log *slog.Logger) Option {
	return func(c *Copier) {
		if log != nil {
			c.log = log
		}
	}
}

// WithScan sets how often all of a volume that is followed is looked at, on both
// sides, in case that watching it missed something. Less than a second counts as
// one.
func WithScan(every time.Duration) Option {
	return func(c *Copier) { c.scanEvery = max(every, time.Second) }
}

// WithMaxLoss sets which share of a copy's files, between 0 and 1, its source may
// remove at a time, or within some minutes, before [Copier.Follow] waits for a person's
// consent. Files that are found elsewhere in the volume do not count. 0 or less never waits, but for a
// source that is empty.
func WithMaxLoss(share float64) Option { return func(c *Copier) { c.maxLoss = share } }

// Remember makes the Copier keep files beside each directory that it receives
// into: DIR.lock, while it does, so that nobody else does ([ErrBusy]); DIR.index, what
// the copy was when it was last complete; DIR.ours, what
// came since; and DIR.kept, with what the source replaced or removed below
// "replaced", and what something else had changed in the copy below "conflicts",
// each below the time at which it was put there. With that, a copy's own changes
// are told from the source's, also between two Receives, and are never lost.
//
// What was replaced is kept for age, and at most size bytes of it, and not at all
// where the disk is full; every file counts 4 KiB at least. Conflicts stay until a
// person removes them; when there are more than size bytes of them, the copy stays as
// it is, with ErrConflicts, before anything else that was written into it is set aside.
func Remember(age time.Duration, size int64) Option {
	return func(c *Copier) { c.remember, c.keepAge, c.keepSize = true, age, size }
}

// New returns a Copier.
func New(opts ...Option) *Copier {
	c := &Copier{
		log: slog.New(slog.DiscardHandler), scanEvery: DefaultScan, maxLoss: DefaultMaxLoss, silence: defaultSilence, highest: maxVersion, openRoot: openRoot,
		busy: make(map[string]chan struct{}), sources: make(map[string]*source), lists: delta.NewMemory(listsBudget),
	}
	for _, opt := range opts {
		opt(c)
	}
	return c
}
