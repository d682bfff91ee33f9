package containerd

import (
	"cmp"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/budgiehq/budgie/internal/stall"
)

// Name is the word by which users choose this runtime.
const Name = "containerd"

// The defaults of the options.
const (
	DefaultAddress   = "/run/containerd/containerd.sock"
	DefaultNamespace = "budgie"
	DefaultDataDir   = "/var/lib/budgie/containerd"
	DefaultSubnet    = "10.83.0.0/16"
)

// An Option changes a default of [New].
type Option func(*options)

type options struct {
	address   string
	namespace string
	dir       string
	subnet    string
	log       *slog.Logger
	logBytes  int64
	logFiles  int
	// registryDirs are where registries are configured.
	registryDirs []string
	stall        stall.Guard
}

// WithAddress sets containerd's socket. The default is what CONTAINERD_ADDRESS
// says, else DefaultAddress.
func WithAddress(path string) Option { return func(o *options) { o.address = path } }

// WithNamespace sets the containerd namespace in which everything is. The
// default is what CONTAINERD_NAMESPACE says, else DefaultNamespace.
func WithNamespace(name string) Option { return func(o *options) { o.namespace = name } }

// WithDataDir sets the directory for specifications, logs and pipes, which is
// created if needed. The default is containerd in the directory that
// BUDGIE_DATA_DIR names, else DefaultDataDir.
func WithDataDir(dir string) Option { return func(o *options) { o.dir = dir } }

// WithSubnet sets the IPv4 network of the bridge, in CIDR notation. The default
// is DefaultSubnet.
func WithSubnet(cidr string) Option { return func(o *options) { o.subnet = cidr } }

// WithLogger says where to report what is no error of a single call. The
// default reports nothing.
func WithLogger(log *slog.Logger) Option { return func(o *options) { o.log = log } }

// WithLogLimit bounds what is kept of each container's output: files of at
// most so many bytes. The default is 3 files of 10 MiB. Zero means the default.
func WithLogLimit(bytes int64, files int) Option {
	return func(o *options) { o.logBytes, o.logFiles = bytes, files }
}

// WithRegistryConfig sets the directories in which registries are configured, as
// containerd documents it for certs.d: the first that has a directory for a
// registry counts. The default is /etc/containerd/certs.d, then
// /etc/docker/certs.d.
func WithRegistryConfig(dirs ...string) Option { return func(o *options) { o.registryDirs = dirs } }

// WithMinThroughput sets when a transfer from a registry is given up: when it
// brings less than so many bytes within the window, in which only the time
// counts that is spent waiting for the registry. The default is 30 KiB within
// 30 s. A window of 0 gives nothing up.
func WithMinThroughput(bytes int64, window time.Duration) Option {
	return func(o *options) { o.stall = stall.Guard{Window: window, MinBytes: bytes} }
}

func newOptions(opts []Option) options {
	o := options{
		address:      cmp.Or(os.Getenv("CONTAINERD_ADDRESS"), DefaultAddress),
		namespace:    cmp.Or(os.Getenv("CONTAINERD_NAMESPACE"), DefaultNamespace),
		dir:          filepath.FromSlash(DefaultDataDir),
		subnet:       DefaultSubnet,
		log:          slog.New(slog.DiscardHandler),
		registryDirs: []string{"/etc/containerd/certs.d", "/etc/docker/certs.d"},
		stall:        stall.Guard{Window: 30 * time.Second, MinBytes: 30 << 10},
	}
	if dir := os.Getenv("BUDGIE_DATA_DIR"); dir != "" {
		o.dir = filepath.Join(dir, Name)
	}
	for _, opt := range opts {
		opt(&o)
	}
	return o
}
