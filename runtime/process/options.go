package process

import "log/slog"

// Name is the word by which users choose this runtime.
const Name = "process"

// An Option changes a default of [New].
type Option func(*options)

type options struct {
	log      *slog.Logger
	logBytes int64
	logFiles int
}

// WithLogger says where to report what is no error of a single call. The
// default reports nothing.
func WithLogger(log *slog.Logger) Option { return func(o *options) { o.log = log } }

// WithLogLimit bounds what is kept of each container's output: files of at
// most so many bytes. The default is 3 files of 10 MiB. Zero means the default.
func WithLogLimit(bytes int64, files int) Option {
	return func(o *options) { o.logBytes, o.logFiles = bytes, files }
}

func newOptions(opts []Option) options {
	o := options{log: slog.New(slog.DiscardHandler)}
	for _, opt := range opts {
		opt(&o)
	}
	return o
}
