//go:build linux

package containerd

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/runtime"
)

// etcFiles are the files of /etc that a container gets from its runtime.
var etcFiles = [...]string{"hosts", "hostname", "resolv.conf"}

// writeEtc writes them into dir. addr is the container's own address, empty
// where it has none. They are written in place: a file that is mounted stays
// the same file.
func writeEtc(dir string, cfg runtime.Config, addr string) error {
	name := hostname(cfg)
	hosts := "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
	if addr == "" {
		addr = "127.0.1.1"
	}
	hosts += addr + "\t" + name + "\n"
	resolv, err := hostResolver()
	if err != nil {
		return err
	}
	switch cfg.Spec.Network {
	case bunfile.NetworkHost:
	case bunfile.NetworkNone:
		resolv = nil
	default:
		resolv = reachable(resolv)
	}
	return errors.Join(
		os.WriteFile(filepath.Join(dir, "hosts"), []byte(hosts), 0o644),
		os.WriteFile(filepath.Join(dir, "hostname"), []byte(name+"\n"), 0o644),
		os.WriteFile(filepath.Join(dir, "resolv.conf"), resolv, 0o644),
	)
}

// resolverFiles are where a machine's name servers are: where systemd-resolved
// runs, /etc/resolv.conf names only itself, on a loopback address.
var resolverFiles = [...]string{"/run/systemd/resolve/resolv.conf", "/etc/resolv.conf"}

func hostResolver() ([]byte, error) {
	for _, file := range resolverFiles {
		data, err := os.ReadFile(file)
		if err == nil {
			return data, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("find the machine's name servers: %w", err)
		}
	}
	return nil, nil // a machine without name servers
}

// reachable leaves out the name servers on loopback addresses, which are not
// the container's loopback.
func reachable(resolv []byte) []byte {
	var out bytes.Buffer
	for s := bufio.NewScanner(bytes.NewReader(resolv)); s.Scan(); {
		if f := strings.Fields(s.Text()); len(f) > 1 && f[0] == "nameserver" {
			if a, err := netip.ParseAddr(f[1]); err == nil && a.IsLoopback() {
				continue
			}
		}
		fmt.Fprintln(&out, s.Text())
	}
	return out.Bytes()
}
