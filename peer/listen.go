package peer

import (
	"context"
	"fmt"
	"net"
	"strconv"
)

// DefaultPort is where a node's endpoint listens if the port is free. What
// counts for others is the port that was announced.
const DefaultPort = 18733

// portTries is how many ports from DefaultPort on are tried before any other
// will do. More endpoints than that on one host are rare.
const portTries = 32

// Listen opens the socket of an endpoint: DefaultPort of a host, which is an
// address of this machine or empty for all of them, or the next port that is
// free, within reason, or any.
func Listen(ctx context.Context, host string) (net.Listener, error) {
	lc := net.ListenConfig{KeepAliveConfig: keepAlive}
	for i := range portTries {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("listen for peers: %w", ctx.Err())
		}
		if ln, err := lc.Listen(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(DefaultPort+i))); err == nil {
			return ln, nil
		}
	}
	// Whatever kept those ports from being used, such as a host that is not of
	// this machine, shows again if it is not the port.
	ln, err := lc.Listen(ctx, "tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return nil, fmt.Errorf("listen for peers: %w", err)
	}
	return ln, nil
}
