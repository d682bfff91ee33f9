//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/budgiehq/budgie/internal/containerdtest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// R7 (moby#22054): the host's firewall decides who reaches a published port of a
// container, as it does for any other port; so does the bind address. And the
// container learns who really talks to it.
func TestCaseR7PublishedPortsObeyTheFirewall(t *testing.T) {
	lan := containerdtest.NewLAN(t)
	// The path of a socket is short, and t.TempDir's would be too long.
	dir, err := os.MkdirTemp("", "r7-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	d, err := containerdtest.Start(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Kill)
	img, err := containerdtest.GoProgram(filepath.Join(t.TempDir(), "testserver"), "github.com/budgiehq/budgie/internal/testserver",
		ocispec.ImageConfig{Entrypoint: []string{containerdtest.ProgramPath}})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Import(t.Context(), img, "docker.io/local/testserver:latest"); err != nil {
		t.Fatal(err)
	}
	b := &published{t: t, lan: lan, env: []string{
		"CONTAINERD_ADDRESS=" + d.Address, "CONTAINERD_NAMESPACE=" + d.Namespace, "BUDGIE_INTERFACES=lo",
	}}

	b.run("") // all addresses
	b.reached(b.lan.Dial, lan.Here)
	b.clientIsKnown()
	for _, target := range []string{"DROP", "REJECT"} {
		for _, protocol := range []string{"tcp", "udp"} {
			b.denied(protocol, target)
			b.reached(b.lan.Dial, lan.Here)
		}
	}

	b.run("127.0.0.1")
	b.refused(b.lan.Dial, lan.Here)
	b.refused(new(net.Dialer).DialContext, lan.Here)
	b.reached(new(net.Dialer).DialContext, "127.0.0.1")

	b.run(lan.Here)
	b.reached(b.lan.Dial, lan.Here)
	b.refused(new(net.Dialer).DialContext, "127.0.0.1")
}

// published is a container with a TCP and a UDP port on a bridge.
type published struct {
	t   *testing.T
	lan *containerdtest.LAN
	env []string

	data     string
	tcp, udp string // the ports
}

// run runs the container anew with another bind address.
func (b *published) run(bind string) {
	b.t.Helper()
	if b.data != "" {
		b.budgie("rm", "-f", "web")
	}
	b.data = b.t.TempDir()
	b.env = append(b.env, "BUDGIE_DATA_DIR="+b.data, "BUDGIE_BIND="+bind)
	data, env := b.data, b.env
	b.t.Cleanup(func() { endAll(data, env...) })
	file := filepath.Join(b.t.TempDir(), "web.bun")
	if err := os.WriteFile(file, []byte(`version: "1.0"
name: web
image: {docker_image: local/testserver, pull: never, command: ["-host", "0.0.0.0", "-udp", "53"]}
ports:
  - {container_port: 80}
  - {container_port: 53, protocol: udp}
healthcheck: {path: /}
`), 0o600); err != nil {
		b.t.Fatal(err)
	}
	b.budgie("run", "-d", file)
	var entries []psEntry
	if err := json.Unmarshal(b.budgie("ps", "-format", "json"), &entries); err != nil || len(entries) != 1 || len(entries[0].Endpoints) != 2 {
		b.t.Fatalf("ps lists %+v, %v", entries, err)
	}
	_, b.tcp, _ = net.SplitHostPort(entries[0].Endpoints[0])
	_, b.udp, _ = net.SplitHostPort(strings.TrimSuffix(entries[0].Endpoints[1], "/udp"))
}

func (b *published) budgie(args ...string) []byte {
	b.t.Helper()
	cmd := exec.Command(filepath.Join(binDir, "budgie"), args...)
	cmd.Env = append(os.Environ(), b.env...)
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	if err := cmd.Run(); err != nil {
		b.t.Fatalf("budgie %s: %v\n%s", strings.Join(args, " "), err, complaints.String())
	}
	return out.Bytes()
}

// patience bounds the wait for what has to happen.
const patience = 30 * time.Second

type dialFunc func(ctx context.Context, network, addr string) (net.Conn, error)

// denied checks that a rule for the port of a protocol keeps the other machine
// away from that, and from nothing else.
func (b *published) denied(protocol, target string) {
	b.t.Helper()
	port, other := b.tcp, "udp"
	if protocol == "udp" {
		port, other = b.udp, "tcp"
	}
	rule := []string{"-i", b.lan.Link, "-p", protocol, "--dport", port, "-j", target}
	b.iptables(append([]string{"-I", "INPUT"}, rule...)...)
	defer b.iptables(append([]string{"-D", "INPUT"}, rule...)...)
	ctx, cancel := context.WithTimeout(b.t.Context(), patience)
	defer cancel()
	// What the rule counts does not go on to anybody.
	tried := make(chan error, 1)
	go func() { tried <- b.try(ctx, b.lan.Dial, protocol, b.lan.Here) }()
	for b.packets() == 0 && ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-time.After(10 * time.Millisecond):
		}
	}
	if ctx.Err() != nil {
		b.t.Errorf("the rule to %s %s saw no packet: the port is not behind the firewall", target, protocol)
	}
	if target == "DROP" {
		cancel() // nothing will come
	}
	err := <-tried
	if err == nil || target == "REJECT" && !errors.Is(err, syscall.ECONNREFUSED) {
		b.t.Errorf("with a rule to %s %s the other machine gets %v", target, protocol, err)
	}
	if err := b.try(b.t.Context(), b.lan.Dial, other, b.lan.Here); err != nil {
		b.t.Errorf("with a rule to %s %s the other machine does not reach the port of %s: %v", target, protocol, other, err)
	}
}

func (b *published) iptables(args ...string) []byte {
	b.t.Helper()
	out, err := exec.Command("iptables", append([]string{"-w"}, args...)...).CombinedOutput()
	if err != nil {
		b.t.Fatalf("iptables %q: %v\n%s", args, err, out)
	}
	return out
}

// packets is how many packets the first rule for incoming ones has seen.
func (b *published) packets() int {
	b.t.Helper()
	out := b.iptables("-nvxL", "INPUT", "1")
	fields := strings.Fields(string(out))
	n, err := strconv.Atoi(fields[0])
	if err != nil {
		b.t.Fatalf("iptables says %q", out)
	}
	return n
}

// reached checks that both ports answer at an address of this machine.
func (b *published) reached(dial dialFunc, host string) {
	b.t.Helper()
	for _, protocol := range []string{"tcp", "udp"} {
		if err := b.try(b.t.Context(), dial, protocol, host); err != nil {
			b.t.Errorf("%s at %s: %v", protocol, host, err)
		}
	}
}

// refused checks that nobody listens to either port at an address of this
// machine.
func (b *published) refused(dial dialFunc, host string) {
	b.t.Helper()
	for _, protocol := range []string{"tcp", "udp"} {
		if err := b.try(b.t.Context(), dial, protocol, host); !errors.Is(err, syscall.ECONNREFUSED) {
			b.t.Errorf("%s at %s: got %v, want it refused", protocol, host, err)
		}
	}
}

// try talks with a port until it answers or is refused.
func (b *published) try(ctx context.Context, dial dialFunc, protocol, host string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if protocol == "tcp" {
		body, err := b.get(ctx, dial, host, "/", nil)
		if err == nil && !strings.HasPrefix(body, "web ") {
			err = fmt.Errorf("the answer is %q", body)
		}
		return err
	}
	conn, err := dial(ctx, "udp", net.JoinHostPort(host, b.udp))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	answer, err := askUDP(ctx, conn, "who?")
	if err == nil && answer != "web who?" {
		err = fmt.Errorf("the answer is %q", answer)
	}
	return err
}

func (b *published) get(ctx context.Context, dial dialFunc, host, path string, header http.Header) (string, error) {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: dial}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, b.tcp)+path, nil)
	if err != nil {
		return "", err
	}
	for key, values := range header {
		req.Header[key] = values
	}
	res, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	return string(body), err
}

// clientIsKnown checks that the container sees the other machine's address, and
// not what that makes up.
func (b *published) clientIsKnown() {
	b.t.Helper()
	got, err := b.get(b.t.Context(), b.lan.Dial, b.lan.Here, "/header", http.Header{
		"X-Forwarded-For":  {"192.0.2.66"},
		"X-Forwarded-Host": {"spoofed.example"},
		"X-Real-Ip":        {"192.0.2.66"},
		"Forwarded":        {"for=192.0.2.66;host=spoofed.example"},
	})
	if err != nil {
		b.t.Fatal(err)
	}
	header := map[string][]string{}
	for line := range strings.Lines(got) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		header[key] = append(header[key], value)
	}
	if f := header["X-Forwarded-For"]; len(f) != 1 || f[0] != b.lan.There {
		b.t.Errorf("X-Forwarded-For is %q, want %s alone", f, b.lan.There)
	}
	if f := header["Forwarded"]; len(f) != 1 || !strings.Contains(f[0], "for="+b.lan.There) {
		b.t.Errorf("Forwarded is %q, want %s", f, b.lan.There)
	}
	if strings.Contains(got, "192.0.2.66") || strings.Contains(got, "spoofed") {
		b.t.Errorf("what the client made up reached the container:\n%s", got)
	}
}
