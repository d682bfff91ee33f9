package mdns

import (
	"log/slog"
	"time"
)

// DefaultTTL is the time for which others believe an announcement that they do
// not hear again: RFC 6762 section 10 recommends 120 seconds for records that
// name a host.
const DefaultTTL = 120 * time.Second

// Option changes what New makes.
type Option func(*config)

type config struct {
	interfaces []string
	log        *slog.Logger
	ttl        time.Duration
}

// WithInterfaces names the network interfaces to announce and browse on. No
// names, the default, means all that are up, can do multicast, have an address,
// and lead to other machines: container bridges, virtual links, tunnels and
// loopback are left out. While there is none, it is loopback. Interfaces are
// followed as they come and go; a name that no interface has when New is called
// is an error.
func WithInterfaces(names ...string) Option {
	return func(c *config) { c.interfaces = append([]string(nil), names...) }
}

// WithLogger sets where the Discoverer logs; nil and the default mean nowhere.
// Packets that are ignored are logged at debug level.
func WithLogger(log *slog.Logger) Option {
	return func(c *config) {
		if log != nil {
			c.log = log
		}
	}
}

// WithTTL sets for how long others believe an announcement that they do not
// hear again; the default is DefaultTTL. A shorter time shows the loss of a
// host sooner, at the price of that much more traffic, since browsers ask again
// after 80 % of it. It is rounded up to seconds, at least two.
func WithTTL(ttl time.Duration) Option {
	return func(c *config) { c.ttl = max(2*time.Second, (ttl + time.Second - 1).Truncate(time.Second)) }
}
