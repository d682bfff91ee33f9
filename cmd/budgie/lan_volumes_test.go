//go:build linux

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/budgiehq/budgie/internal/containerdtest"
	"github.com/budgiehq/budgie/internal/lan"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// volumes returns what budgie status says of a container's volumes on this machine.
func (m *machine) volumes(name string) []volumeJSON {
	m.Helper()
	cmd := m.command("status", "-format", "json", name)
	if err := cmd.Run(); err != nil {
		m.Fatal(err)
	}
	var list, local []volumeJSON
	text := cmd.Printed()
	if err := json.NewDecoder(strings.NewReader(text[strings.Index(text, "["):])).Decode(&list); err != nil {
		m.Fatalf("%v: %s", err, text)
	}
	for _, v := range list {
		if v.Local {
			local = append(local, v)
		}
	}
	return local
}

// within waits until something is so.
func (m *machine) within(long time.Duration, what string, is func() bool) {
	m.Helper()
	for deadline := time.Now().Add(long); !is(); <-time.After(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			m.Fatalf("%s: not within %s; the volumes: %+v", what, long, m.volumes("web"))
		}
	}
}

// The main job of volumes: a page that is changed on one machine is served by the
// replica on another; while the first is cut off it goes on writing, and the second
// has all of it when the cable is in again; when the first loses its power, the
// second becomes the owner, and a third one follows it.
func TestVolumesFollowFromMachineToMachine(t *testing.T) {
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
volumes: [{source: pages, target: /pages, mode: ro}]
healthcheck: {path: /, interval: 200ms}
`)
	page := a.Write("pages/index.html", "the first page")
	a.budgie("run", "-d", file)
	token := a.budgie("token")
	b.joins(token)
	c.joins(token)
	b.budgie("chirp", "-d", "web")
	c.budgie("chirp", "-d", "web")
	write := func(file, text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	// The published port of a machine leads to all replicas: its own is asked by
	// itself.
	served := func(m *machine) string {
		return m.budgie("exec", "web", containerdtest.ProgramPath, "-print", "/pages/index.html")
	}
	write(page, "the second page")
	for _, m := range []*machine{b, c} {
		m.within(20*time.Second, "the second page on "+m.Name, func() bool { return strings.Contains(served(m), "the second page") })
	}

	a.NIC(0).CableOut()
	b.within(30*time.Second, "the cut", func() bool { return b.volumes("web")[0].State == "cut off" })
	write(page, "written behind the cut")
	write(filepath.Join(filepath.Dir(page), "more"), "more")
	if got := served(b); !strings.Contains(got, "the second page") {
		t.Errorf("behind the cut the replica has %q", got)
	}
	a.NIC(0).CableIn()
	b.within(30*time.Second, "what was written behind the cut", func() bool { return strings.Contains(served(b), "written behind the cut") })
	b.within(20*time.Second, "sync", func() bool { return b.volumes("web")[0].State == "synced" })

	a.PowerOff()
	a.daemon.Kill()
	b.within(30*time.Second, "the owner's end", func() bool { return b.volumes("web")[0].State == "cut off" })
	b.budgie("chirp", "-promote", "web")
	own := b.volumes("web")[0]
	if !own.Owner || own.Term != 2 {
		t.Errorf("promoted, it is %+v", own)
	}
	write(filepath.Join(own.Dir, "index.html"), "of the new owner")
	c.within(30*time.Second, "the new owner's page", func() bool { return strings.Contains(served(c), "of the new owner") })
	for _, m := range []*machine{b, c} {
		m.budgie("rm", "-f", "web")
	}
}
