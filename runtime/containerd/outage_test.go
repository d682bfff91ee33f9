//go:build linux

package containerd

import (
	"net"
	"path/filepath"
	"strings"
	"testing"
)

// A containerd that hung before anybody connected to it is said to hang, too: the
// kernel takes connections for it. That is found out after 10 s.
func TestHangingFromTheBeginning(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 10 s")
	}
	dir := t.TempDir()
	socket := filepath.Join(dir, "s")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	r, err := New(WithAddress(socket), WithDataDir(dir))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	err = r.RemoveImage(t.Context(), "docker.io/library/busybox:latest")
	if err == nil || !strings.Contains(err.Error(), "does not answer") || !strings.Contains(err.Error(), "systemctl restart containerd") {
		t.Errorf("RemoveImage: %v", err)
	}
}
