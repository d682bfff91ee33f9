//go:build linux

package containerd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/budgiehq/budgie/internal/stall"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/core/remotes/docker/config"
	"github.com/containerd/errdefs"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/credentials"
)

// mirrorPatience is how long a mirror may take to accept a connection. There is
// another host to ask after it, and most machines that answer at all do so in a
// fraction of that.
const mirrorPatience = 800 * time.Millisecond

// registries reaches the hosts of one pull.
type registries struct {
	guard stall.Guard
	// read is told of the bytes of each answer.
	read func(req *http.Request, n int)

	mu sync.Mutex
	// mirrors are the addresses after which there is another one to ask, and
	// dead those of them that could not be reached: they are not asked again.
	mirrors map[string]bool
	dead    map[string]error
	// login is what the credentials came from, or why there are none.
	login string
}

// resolver reaches registries as containerd's other users do, with the
// credentials that Docker's users have.
func (g *registries) resolver(ctx context.Context, dirs []string) remotes.Resolver {
	hosts := config.ConfigureHosts(ctx, config.HostOptions{
		HostDir:      hostDir(dirs),
		Credentials:  g.credentials,
		UpdateClient: g.updateClient,
	})
	return docker.NewResolver(docker.ResolverOptions{Hosts: func(name string) ([]docker.RegistryHost, error) {
		all, err := hosts(name)
		if err != nil {
			return nil, fmt.Errorf("configuration of registry %s below %s: %w", name, strings.Join(dirs, ", "), err)
		}
		for i, h := range all {
			g.know(h, i < len(all)-1)
		}
		return all, nil
	}})
}

// hostDir finds the directory with a registry's configuration in the first of
// several directories that has one.
func hostDir(dirs []string) func(string) (string, error) {
	return func(host string) (string, error) {
		for _, dir := range dirs {
			found, err := config.HostDirFromRoot(dir)(host)
			if err == nil || !errdefs.IsNotFound(err) {
				return found, err
			}
		}
		return "", errdefs.ErrNotFound
	}
}

// know remembers whether there is another host to ask after this one.
func (g *registries) know(h docker.RegistryHost, mirror bool) {
	addr := h.Host
	if _, _, err := net.SplitHostPort(addr); err != nil {
		port := "443"
		if h.Scheme == "http" {
			port = "80"
		}
		addr = net.JoinHostPort(strings.Trim(addr, "[]"), port)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if mirror {
		g.mirrors[addr] = true
	} else {
		delete(g.mirrors, addr)
	}
}

// updateClient puts the guard and the patience with mirrors around a client
// that was just made. A client with settings of its own comes a second time.
func (g *registries) updateClient(c *http.Client) error {
	if t, ok := c.Transport.(*http.Transport); ok {
		t.DialContext = g.dial(t.DialContext)
		c.Transport = clearOnLoopback{g.guard.Transport(t, g.read)}
	}
	return nil
}

// clearOnLoopback makes containerd's client speak in clear with a registry on a
// loopback address that does not speak TLS, whatever it answers instead. The
// client itself does so only where that is an answer of HTTP/1.1, and small
// servers answer what they do not understand in older ways.
type clearOnLoopback struct{ http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (c clearOnLoopback) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := c.RoundTripper.RoundTrip(req)
	if rec, ok := errors.AsType[tls.RecordHeaderError](err); ok && isLoopback(req.URL.Hostname()) {
		copy(rec.RecordHeader[:], "HTTP/") // what it looks for
		return nil, rec
	}
	return resp, err
}

func isLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

type dialFunc func(ctx context.Context, network, addr string) (net.Conn, error)

// dial wastes no time on mirrors that cannot be reached.
func (g *registries) dial(next dialFunc) dialFunc {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		g.mu.Lock()
		mirror, dead := g.mirrors[addr], g.dead[addr]
		g.mu.Unlock()
		switch {
		case dead != nil:
			return nil, dead
		case !mirror:
			return next(ctx, network, addr)
		}
		short, cancel := context.WithTimeout(ctx, mirrorPatience)
		defer cancel()
		conn, err := next(short, network, addr)
		if err != nil && ctx.Err() == nil {
			g.mu.Lock()
			g.dead[addr] = err
			g.mu.Unlock()
		}
		return conn, err
	}
}

// credentials returns what the Docker configuration file of the user who runs
// this program, or a credential helper that it names, has for a host.
func (g *registries) credentials(host string) (user, secret string, err error) {
	login := ""
	defer func() {
		if err != nil {
			login = err.Error()
		}
		g.mu.Lock()
		g.login = login
		g.mu.Unlock()
	}()
	store, err := credentials.NewStoreFromDocker(credentials.StoreOptions{})
	if err != nil {
		return "", "", fmt.Errorf("read the Docker configuration, for a login to %s: %w", host, err)
	}
	cred, err := store.Get(context.Background(), credentials.ServerAddressFromHostname(host))
	if err != nil {
		return "", "", fmt.Errorf("get a login to %s by way of %s: %w", host, store.ConfigPath(), err)
	}
	switch {
	case cred == auth.EmptyCredential:
		login = fmt.Sprintf("there is none in %s: run \"docker login %s\" or \"nerdctl login %s\" as this user", store.ConfigPath(), host, host)
		return "", "", nil
	case cred.RefreshToken != "": // an identity token goes without a user name
		login = "the identity token by way of " + store.ConfigPath() + " is refused"
		return "", cred.RefreshToken, nil
	case cred.Username == "":
		return "", "", fmt.Errorf("%s has an access token for %s, which cannot be used here: log in with a name and a password or an identity token", filepath.Base(store.ConfigPath()), host)
	}
	login = fmt.Sprintf("that of user %q by way of %s is refused", cred.Username, store.ConfigPath())
	return cred.Username, cred.Password, nil
}

// loginState says which login was used.
func (g *registries) loginState() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.login
}

func (r *Runtime) newRegistries(read func(*http.Request, int)) *registries {
	return &registries{guard: r.stall, read: read, mirrors: map[string]bool{}, dead: map[string]error{}}
}
