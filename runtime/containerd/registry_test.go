//go:build linux

package containerd

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/internal/containerdtest"
	"github.com/containerd/containerd/v2/core/remotes/docker"
)

// dockerConfig makes a Docker configuration directory the user's. The helper
// knows one login, for the host that it is given.
func dockerConfig(t *testing.T, config, helperHost string) {
	t.Helper()
	dir := t.TempDir()
	helper := fmt.Sprintf("#!/bin/sh\nread host\nif [ \"$1 $host\" != \"get %s\" ]; then echo 'credentials not found in native keychain'; exit 1; fi\n"+
		`echo "{\"ServerURL\":\"$host\",\"Username\":\"joe\",\"Secret\":\"secret\"}"`+"\n", helperHost)
	if err := errors.Join(
		os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o600),
		os.WriteFile(filepath.Join(dir, "docker-credential-test"), []byte(helper), 0o700),
	); err != nil {
		t.Fatal(err)
	}
	t.Setenv("DOCKER_CONFIG", dir)
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

// wantLogin makes a registry want the login of joe, and answer where its tokens
// come from if bearer is set.
func wantLogin(registry *containerdtest.Registry, bearer bool) {
	registry.Fault = func(w http.ResponseWriter, req *http.Request) bool {
		user, password, ok := req.BasicAuth()
		login := ok && user == "joe" && password == "secret"
		if req.URL.Path == "/token" {
			if !login {
				w.WriteHeader(http.StatusUnauthorized)
				return true
			}
			_ = json.NewEncoder(w).Encode(map[string]string{"token": "let-me-in"})
			return true
		}
		if bearer && req.Header.Get("Authorization") == "Bearer let-me-in" || !bearer && login {
			return false
		}
		challenge := `Basic realm="private"`
		if bearer {
			challenge = fmt.Sprintf(`Bearer realm="http://%s/token",service="registry",scope="repository:tool:pull"`, registry.Host)
		}
		w.Header().Set("WWW-Authenticate", challenge)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	}
}

func TestLogins(t *testing.T) {
	auth := func(host, password string) string {
		return fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, host, base64.StdEncoding.EncodeToString([]byte("joe:"+password)))
	}
	for _, c := range []struct {
		name   string
		config func(host string) string
		bearer bool
		// texts are in the error; none means that it works.
		texts []string
	}{
		{"password", func(host string) string { return auth(host, "secret") }, false, nil},
		{"token", func(host string) string { return auth(host, "secret") }, true, nil},
		{"helper of a host", func(host string) string { return fmt.Sprintf(`{"credHelpers":{%q:"test"}}`, host) }, false, nil},
		{"helper of all", func(string) string { return `{"credsStore":"test"}` }, true, nil},
		{"wrong password", func(host string) string { return auth(host, "guess") }, false,
			[]string{"wants a login", `that of user "joe"`, "is refused"}},
		{"wrong password for a token", func(host string) string { return auth(host, "guess") }, true,
			[]string{"wants a login", `that of user "joe"`, "is refused"}},
		{"of another host", func(string) string { return auth("elsewhere.example", "secret") }, false,
			[]string{"wants a login", `there is none in`, "config.json", `run "docker login 127.0.0.1:`}},
		{"helper without it", func(string) string { return `{"credHelpers":{"elsewhere.example":"test"}}` }, true,
			[]string{"wants a login", `there is none in`}},
		{"missing helper", func(host string) string { return fmt.Sprintf(`{"credHelpers":{%q:"nosuch"}}`, host) }, false,
			[]string{"docker-credential-nosuch", "config.json"}},
		{"damaged file", func(string) string { return `{"auths":` }, false, []string{"read the Docker configuration", "config.json"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t)
			registry := containerdtest.NewRegistry(t)
			wantLogin(registry, c.bearer)
			dockerConfig(t, c.config(registry.Host), registry.Host)
			s := fromRegistry(registry.Push(registryImage(t, ""), "tool", "1"))
			if len(c.texts) > 0 {
				if err := b.refused(s, c.texts...); strings.Contains(err.Error(), "guess") {
					t.Errorf("the password is in %q", err)
				}
				return
			}
			if exit, _ := b.end(s); exit.Code != 0 {
				t.Errorf("it ended with %d", exit.Code)
			}
		})
	}
}

// outside serves a registry at an address that is not a loopback one, though
// only this test's network has it.
func outside(t *testing.T, registry *containerdtest.Registry) *httptest.Server {
	t.Helper()
	addAddress(t, "outside0", "10.98.0.1/24")
	l, err := net.Listen("tcp", "10.98.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(registry)
	server.Listener.Close()
	server.Listener = l
	server.Config.ErrorLog = nil
	t.Cleanup(server.Close)
	return server
}

// addAddress gives the test's network an interface behind which nobody is.
func addAddress(t *testing.T, name, addr string) {
	t.Helper()
	containerdtest.Need(t)
	for _, args := range [][]string{{"link", "add", name, "type", "bridge"}, {"address", "add", addr, "dev", name}, {"link", "set", name, "up"}} {
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %q: %v: %s", args, err, out)
		}
	}
	t.Cleanup(func() {
		if out, err := exec.Command("ip", "link", "delete", name).CombinedOutput(); err != nil {
			t.Errorf("ip link delete: %v: %s", err, out)
		}
	})
}

// hostsFile configures a registry as containerd's users do.
func hostsFile(t *testing.T, host, text string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := errors.Join(os.MkdirAll(filepath.Join(dir, host), 0o755), os.WriteFile(filepath.Join(dir, host, "hosts.toml"), []byte(text), 0o644)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// A registry that is not on loopback is spoken to in clear, or without a known
// certificate, only where its configuration says so.
func TestRegistryConfiguration(t *testing.T) {
	registry := containerdtest.NewRegistry(t)
	registry.Push(registryImage(t, ""), "tool", "1")
	pull := func(t *testing.T, host, configDir string) error {
		b := newBench(t, WithRegistryConfig(t.TempDir(), configDir))
		_, err := b.Pull(b.ctx, bunfile.Image{DockerImage: host + "/tool:1", Pull: bunfile.PullAlways}, nil)
		return err
	}
	t.Run("clear", func(t *testing.T) {
		server := outside(t, registry)
		server.Start()
		host := server.Listener.Addr().String()
		if err := pull(t, host, t.TempDir()); err == nil || !strings.Contains(err.Error(), "HTTP response to HTTPS client") {
			t.Errorf("without a word it is pulled in clear: %v", err)
		}
		dir := hostsFile(t, host, fmt.Sprintf("server = \"http://%s\"\n", host))
		if err := pull(t, host, dir); err != nil {
			t.Errorf("with a hosts file: %v", err)
		}
	})
	t.Run("certificate", func(t *testing.T) {
		server := outside(t, registry)
		server.StartTLS()
		host := server.Listener.Addr().String()
		if err := pull(t, host, t.TempDir()); err == nil || !strings.Contains(err.Error(), "certificate") {
			t.Errorf("an unknown certificate is accepted: %v", err)
		}
		ca := filepath.Join(t.TempDir(), "ca.pem")
		data := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
		if err := os.WriteFile(ca, data, 0o600); err != nil {
			t.Fatal(err)
		}
		// The certificate is one for 127.0.0.1, and names no other address.
		mirror := strings.TrimPrefix(httptestTLS(t, registry), "https://")
		dir := hostsFile(t, host, fmt.Sprintf("[host.\"https://%s\"]\n  ca = %q\n", mirror, ca))
		if err := pull(t, host, dir); err != nil {
			t.Errorf("by way of a mirror with a known certificate: %v", err)
		}
	})
}

// A registry on loopback is spoken to in clear, also where it answers a TLS
// handshake in no way that HTTP/1.1 knows.
func TestClearOnLoopback(t *testing.T) {
	b := newBench(t)
	registry := containerdtest.NewRegistry(t)
	registry.Push(registryImage(t, ""), "tool", "1")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: registry}
	defer server.Close()
	go func() { _ = server.Serve(oldListener{l}) }()
	if _, err := b.Pull(b.ctx, bunfile.Image{DockerImage: l.Addr().String() + "/tool:1"}, nil); err != nil {
		t.Error(err)
	}
}

// oldListener has connections that answer a TLS handshake as HTTP/0.9 does.
type oldListener struct{ net.Listener }

func (l oldListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	first := bufio.NewReader(conn)
	if b, err := first.Peek(1); err == nil && b[0] == 22 { // a TLS handshake
		_, _ = conn.Write([]byte("<html>what?</html>"))
		conn.Close()
	}
	return peeked{conn, first}, nil
}

type peeked struct {
	net.Conn
	first io.Reader
}

func (p peeked) Read(b []byte) (int, error) { return p.first.Read(b) }

func httptestTLS(t *testing.T, handler http.Handler) string {
	server := httptest.NewTLSServer(handler)
	t.Cleanup(server.Close)
	return server.URL
}

// Case I3, registry side: mirrors that cannot be reached do not hold a pull up,
// and one that breaks is passed over.
func TestCaseI3DeadMirror(t *testing.T) {
	addAddress(t, "dead0", "10.99.0.1/24")
	registry := containerdtest.NewRegistry(t)
	img := registryImage(t, "")
	registry.Push(img, "tool", "1")
	broken := containerdtest.NewRegistry(t) // has nothing
	// Nobody has the address of the first mirror, and nobody says so.
	if out, err := exec.Command("ip", "neigh", "add", "10.99.0.77", "lladdr", "02:00:00:00:00:77", "dev", "dead0", "nud", "permanent").CombinedOutput(); err != nil {
		t.Fatalf("ip neigh: %v: %s", err, out)
	}
	dir := hostsFile(t, "registry.example", fmt.Sprintf(
		"server = \"http://%s\"\n[host.\"http://10.99.0.77:5000\"]\n[host.\"http://%s\"]\n", registry.Host, broken.Host))
	b := newBench(t, WithRegistryConfig(dir))
	// A single attempt to connect would take 30 s.
	ctx, cancel := context.WithTimeout(b.ctx, 25*time.Second)
	defer cancel()
	got, err := b.Pull(ctx, bunfile.Image{DockerImage: "registry.example/tool:1"}, nil)
	if err != nil || got != img.Manifest.Digest.String() {
		t.Fatalf("Pull returned %s, %v", got, err)
	}
}

// However much is fetched, a dead mirror costs less than a second in all.
func TestCaseI3DeadMirrorCost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := (&Runtime{}).newRegistries(nil)
		for i, host := range []string{"mirror.example:5000", "mirror.example", "[fd00::1]", "registry.example:5000"} {
			reg.know(docker.RegistryHost{Scheme: "http", Host: host}, i < 3)
		}
		dials := 0
		dial := reg.dial(func(ctx context.Context, _, addr string) (net.Conn, error) {
			if dials++; addr == "registry.example:5000" {
				time.Sleep(10 * time.Second) // the last one has its time
				return nil, nil
			}
			<-ctx.Done()
			return nil, ctx.Err()
		})
		for _, mirror := range []string{"mirror.example:5000", "mirror.example:80", "[fd00::1]:80"} {
			began := time.Now()
			for range 50 {
				if _, err := dial(t.Context(), "tcp", mirror); err == nil {
					t.Fatal("a dead mirror answers")
				}
			}
			if took := time.Since(began); took > time.Second {
				t.Errorf("%s costs %s", mirror, took)
			}
		}
		if _, err := dial(t.Context(), "tcp", "registry.example:5000"); err != nil {
			t.Errorf("the last host: %v", err)
		}
		// What the caller ends says nothing of the mirror.
		reg.dead = map[string]error{}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := dial(ctx, "tcp", "mirror.example:5000"); err == nil || len(reg.dead) > 0 {
			t.Errorf("a cancelled call: %v, %v", err, reg.dead)
		}
	})
}
