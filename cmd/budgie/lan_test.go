//go:build linux

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/budgiehq/budgie/internal/containerdtest"
	"github.com/budgiehq/budgie/internal/lan"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// machine is a host of a laboratory with the real command, and a containerd of its
// own where daemon is not nil.
type machine struct {
	*testing.T
	*lan.Host
	daemon *containerdtest.Daemon
}

func newMachine(t *testing.T, lab *lan.Lab, name string, sw *lan.Switch) *machine {
	t.Helper()
	h := lab.Host(name, sw)
	d, err := containerdtest.StartOn(shortDir(t), h.Start)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Kill)
	t.Cleanup(func() {
		if log, err := os.ReadFile(filepath.Join(h.Dir, "budgie", "supervisor.log")); t.Failed() && err == nil {
			t.Logf("the supervisor of %s: %s", name, log)
		}
	})
	return &machine{t, h, d}
}

// command returns the command with this machine's containerd.
func (m *machine) command(args ...string) *lan.Cmd {
	m.Helper()
	cmd := m.Command("budgie", args...)
	if m.daemon != nil {
		cmd.Env = append(cmd.Env, "CONTAINERD_ADDRESS="+m.daemon.Address, "CONTAINERD_NAMESPACE="+m.daemon.Namespace)
	}
	return cmd
}

func (m *machine) budgie(args ...string) string {
	m.Helper()
	cmd := m.command(args...)
	if err := cmd.Run(); err != nil {
		m.Fatal(err)
	}
	return cmd.Printed()
}

// refuses runs the command, which must fail, and returns what it printed.
func (m *machine) refuses(args ...string) string {
	m.Helper()
	cmd := m.command(args...)
	if err := cmd.Run(); err == nil {
		m.Fatalf("budgie %q succeeds: %s", args, cmd.Printed())
	}
	return cmd.Printed()
}

// joins makes the machine a member of a token's flock.
func (m *machine) joins(token string) {
	m.Helper()
	cmd := m.command("token", "set")
	cmd.Stdin = strings.NewReader(token)
	if err := cmd.Run(); err != nil {
		m.Fatal(err)
	}
}

// get returns what a container on this machine answers.
func (m *machine) get(name string) string {
	m.Helper()
	for _, c := range m.list() {
		if c.Name == name && len(c.Endpoints) > 0 {
			return m.Host.Run("busybox", "wget", "-qO-", "http://"+c.Endpoints[0])
		}
	}
	m.Fatalf("container %s does not serve: %s", name, m.budgie("ps", "-a"))
	return ""
}

// list returns the containers on this machine.
func (m *machine) list() []containerJSON {
	m.Helper()
	var list []containerJSON
	if err := json.Unmarshal([]byte(m.budgie("ps", "-a", "-format", "json")), &list); err != nil {
		m.Fatal(err)
	}
	return list
}

// The main job: what runs on one machine is joined on a second one, which gets
// the specification, the image and the volumes from it, there being no registry; the first one
// loses its power, and a third one joins from the second.
func TestJoinFromMachineToMachine(t *testing.T) {
	containerdtest.Need(t)
	lab := lan.New(t)
	sw := lab.Switch()
	a, b, c := newMachine(t, lab, "a", sw), newMachine(t, lab, "b", sw), newMachine(t, lab, "c", sw)
	img, err := containerdtest.GoProgram(filepath.Join(t.TempDir(), "testserver"), "github.com/budgiehq/budgie/internal/testserver",
		ocispec.ImageConfig{Entrypoint: []string{containerdtest.ProgramPath}})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.daemon.Import(t.Context(), img, "docker.io/library/web:1"); err != nil {
		t.Fatal(err)
	}
	file := a.Write("web.bun", `version: "1.0"
image: {docker_image: "web:1", command: ["-host", "0.0.0.0", "-page", "/pages/index.html"]}
ports: [{container_port: 80}]
environment: [GREETING=from a]
volumes: [{source: pages, target: /pages, mode: ro}]
healthcheck: {path: /, interval: 200ms}
`)
	a.Write("pages/index.html", "a page of a volume")
	a.budgie("run", "-d", file)

	// Without the token there is nothing but the announcement.
	if out := b.refuses("chirp", "web"); !strings.Contains(out, "budgie token set") {
		t.Errorf("without the token: %s", out)
	}
	token := a.budgie("token")
	b.joins(token)
	c.joins(token)
	if out := b.budgie("chirp"); !strings.Contains(out, " web ") || !strings.Contains(out, a.NIC(0).Addr().String()) {
		t.Errorf("chirp lists %s", out)
	}
	if out := b.budgie("chirp", "-dry-run", "web"); !strings.Contains(out, "would run web: web:1 (sha256:") {
		t.Errorf("the plan is %s", out)
	}
	out := b.budgie("chirp", "-d", "web")
	if !strings.Contains(out, "joining web: web:1 (sha256:") {
		t.Errorf("joining prints %s", out)
	}
	if got := b.get("web"); got != a.get("web") || !strings.Contains(got, "from a") || !strings.Contains(got, "a page of a volume") {
		t.Errorf("the replica answers %q", got)
	}
	if out := b.refuses("chirp", "-d", "web"); !strings.Contains(out, "runs it already") {
		t.Errorf("joining twice: %s", out)
	}

	a.PowerOff()
	a.daemon.Kill()
	c.budgie("chirp", "-d", "-name", "third", "web")
	if got := c.get("third"); !strings.Contains(got, "from a") || !strings.Contains(got, "a page of a volume") {
		t.Errorf("the third answers %q", got)
	}
	for _, m := range []*machine{b, c} {
		m.budgie("rm", "-f", m.list()[0].Name)
		if left := m.list(); len(left) != 0 {
			t.Errorf("%s has %+v left", m.Name, left)
		}
	}
}
