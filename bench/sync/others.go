//go:build linux

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/budgiehq/budgie/internal/lan"
)

// until waits until something is so, which others bring about.
func (w *world) until(what string, cmds []*lan.Cmd, so func() bool) error {
	for over := time.Now().Add(2 * time.Minute); !so(); time.Sleep(50 * time.Millisecond) {
		if w.ctx.Err() != nil || time.Now().After(over) {
			var all strings.Builder
			for _, c := range cmds {
				all.WriteString(c.Printed())
			}
			return fmt.Errorf("%s: that did not happen: %.4000s", what, all.String())
		}
	}
	return nil
}

// probe waits until a file that is written is seen in the copy.
func (w *world) probe(src, dst string, cmds []*lan.Cmd) error {
	const name = "probe"
	if err := os.WriteFile(filepath.Join(src, fresh, name), []byte(name), 0o644); err != nil {
		return err
	}
	return w.until("a file was to be copied", cmds, func() bool {
		_, err := os.Lstat(filepath.Join(dst, fresh, name))
		return err == nil
	})
}

// start starts commands, and returns what ends them.
func start(cmds ...*lan.Cmd) (end func(), err error) {
	for i, c := range cmds {
		if err := c.Start(); err != nil {
			cmds = cmds[:i]
			break
		}
	}
	return func() {
		for _, c := range cmds {
			_ = c.Process.Kill()
			_ = c.Wait() // it was killed
		}
	}, err
}

// keepByLsyncd has lsyncd start rsync for what changes, to a daemon on the other
// host.
func (w *world) keepByLsyncd(src, dst string) (func(), error) {
	addr := w.freshAddr(w.b)
	daemon, err := w.daemon(w.b, addr, dst, false)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(w.base, "lsyncd.lua")
	text := fmt.Sprintf(`settings { nodaemon = true, insist = true }
sync { default.rsync, source = %q, target = "rsync://%s/volume/", delay = 0,
	rsync = { archive = true, hard_links = true, acls = true, xattrs = true, _extra = { "--numeric-ids" } } }
`, src, addr)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, err
	}
	cmds := []*lan.Cmd{daemon, w.a.Command("lsyncd", file)}
	end, err := start(daemon)
	if err != nil {
		return nil, err
	}
	if err := w.await(addr); err != nil {
		end()
		return nil, err
	}
	if err := cmds[1].Start(); err != nil {
		end()
		return nil, err
	}
	stop := func() {
		_ = cmds[1].Process.Kill()
		_ = cmds[1].Wait() // it was killed
		end()
	}
	if err := w.probe(src, dst, cmds); err != nil {
		stop()
		return nil, err
	}
	return stop, nil
}

// syncthingConfig is all that a node needs to share one folder with another.
const syncthingConfig = `<configuration version="35">
<folder id="volume" label="volume" path="%[1]s" type="%[2]s" rescanIntervalS="3600" fsWatcherEnabled="true" fsWatcherDelayS="1" ignorePerms="false">
<device id="%[3]s"></device><device id="%[4]s"></device></folder>
<device id="%[3]s" name="a" compression="metadata"><address>tcp://%[5]s</address></device>
<device id="%[4]s" name="b" compression="metadata"><address>tcp://%[6]s</address></device>
<gui enabled="false"></gui>
<options><listenAddress>tcp://%[7]s</listenAddress><globalAnnounceEnabled>false</globalAnnounceEnabled><localAnnounceEnabled>false</localAnnounceEnabled>
<relaysEnabled>false</relaysEnabled><natEnabled>false</natEnabled><startBrowser>false</startBrowser><urAccepted>-1</urAccepted>
<autoUpgradeIntervalH>0</autoUpgradeIntervalH><crashReportingEnabled>false</crashReportingEnabled><reconnectionIntervalS>1</reconnectionIntervalS></options>
</configuration>
`

// keepBySyncthing has two nodes of syncthing, of which one only sends.
func (w *world) keepBySyncthing(src, dst string) (func(), error) {
	hosts := []*lan.Host{w.a, w.b}
	var homes, ids, addrs []string
	for _, h := range hosts {
		home := filepath.Join(w.base, "syncthing-"+h.Name)
		h.Run("syncthing", "generate", "--no-default-folder", "--home="+home)
		homes, addrs = append(homes, home), append(addrs, w.freshAddr(h))
		ids = append(ids, strings.TrimSpace(h.Run("syncthing", "--device-id", "--home="+home)))
	}
	var cmds []*lan.Cmd
	for i, h := range hosts {
		text := fmt.Sprintf(syncthingConfig, []string{src, dst}[i], []string{"sendonly", "receiveonly"}[i], ids[0], ids[1], addrs[0], addrs[1], addrs[i])
		if err := os.WriteFile(filepath.Join(homes[i], "config.xml"), []byte(text), 0o600); err != nil {
			return nil, err
		}
		// What says that a folder is one, and not an unmounted disk.
		if err := os.MkdirAll(filepath.Join([]string{src, dst}[i], ".stfolder"), 0o755); err != nil {
			return nil, err
		}
		cmds = append(cmds, h.Command("syncthing", "serve", "--home="+homes[i], "--no-browser", "--no-restart", "--no-upgrade"))
		cmds[i].Env = append(cmds[i].Env, "HOME="+homes[i], "STNODEFAULTFOLDER=1")
	}
	end, err := start(cmds...)
	if err != nil {
		return nil, err
	}
	if err := w.probe(src, dst, cmds); err != nil {
		end()
		return nil, err
	}
	return end, nil
}
