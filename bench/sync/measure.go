//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// step is something that happens to a source, after which copies are made again.
type step struct {
	name string
	do   func(*tree) error
}

// steps come after each other.
var steps = []step{
	{"Nothing changed", func(*tree) error { return nil }},
	{"One byte of the big file changed", (*tree).oneByte},
	{"100 bytes inserted into its middle", (*tree).insert},
	{fmt.Sprintf("%d small files changed", changedFiles), (*tree).touchMany},
	{"A directory renamed", (*tree).rename},
}

// say tells whoever waits how far it is.
func say(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }

// turns returns the ways, none of them always the first.
func turns(round int, ways []way) []way {
	round %= len(ways)
	return append(append([]way(nil), ways[round:]...), ways[:round]...)
}

// measureTree measures many small files with a big one.
func (w *world) measureTree(r *result) error {
	t, err := grow(filepath.Join(w.base, "tree"), w.settings.files, smallSize, int64(w.settings.big)<<20)
	if err != nil {
		return err
	}
	rsync := rsyncWay(nameRsync)
	copies := map[string]string{budgieWay.name: filepath.Join(w.base, "by-budgie"), nameRsync: filepath.Join(w.base, "by-rsync")}
	first := r.add("First copy")
	for round := range w.settings.rounds {
		say("round %d of %d: first copy", round+1, w.settings.rounds)
		for _, by := range turns(round, []way{rsync, rsyncWay(nameFsync, "--fsync"), budgieWay}) {
			dst, stays := copies[by.name]
			if !stays {
				dst = filepath.Join(w.base, "by-another")
			}
			if err := anew(by, dst, t.dir); err != nil {
				return err
			}
			if err := w.into(first, by, t, dst); err != nil {
				return err
			}
			if !stays {
				if err := forget(dst); err != nil {
					return err
				}
			}
		}
		for _, s := range steps {
			say("round %d of %d: %s", round+1, w.settings.rounds, s.name)
			if err := s.do(t); err != nil {
				return err
			}
			for _, by := range turns(round, []way{rsync, budgieWay}) {
				if err := w.into(r.add(s.name), by, t, copies[by.name]); err != nil {
					return err
				}
			}
		}
	}
	if err := w.measureRAM(r, t, rsync); err != nil {
		return err
	}
	if err := w.measureFollowing(r, t, copies[budgieWay.name]); err != nil {
		return err
	}
	return errors.Join(forget(copies[nameRsync]), forget(copies[budgieWay.name]), os.RemoveAll(t.dir))
}

// into measures a copy, and notes it.
func (w *world) into(c *comparison, by way, t *tree, dst string) error {
	got, err := w.once(by, t.dir, dst)
	if err != nil {
		return fmt.Errorf("%s: %w", c.name, err)
	}
	c.note(by.name, got)
	return nil
}

// measureRAM measures the first copy where waiting for the disk takes no time.
func (w *world) measureRAM(r *result, t *tree, rsync way) error {
	say("into memory")
	c := r.add("First copy into memory (tmpfs), where fsync costs nothing")
	for round := range min(2, w.settings.rounds) {
		for _, by := range turns(round, []way{rsync, budgieWay}) {
			dst := filepath.Join(w.ram, "copy")
			if err := anew(by, dst, t.dir); err != nil {
				return err
			}
			if err := w.into(c, by, t, dst); err != nil {
				return err
			}
			if err := forget(dst); err != nil {
				return err
			}
		}
	}
	return nil
}

// measureMany measures a tree of many small files, of which nothing changed.
func (w *world) measureMany(r *result) error {
	t, err := grow(filepath.Join(w.base, "many"), w.settings.many, 200, 0)
	if err != nil {
		return err
	}
	name := fmt.Sprintf("%d files", w.settings.many)
	ways := []way{rsyncWay(nameRsync), budgieWay}
	dst := func(by way) string { return filepath.Join(w.base, "many-by-"+by.name) }
	for _, by := range ways {
		say("%s: first copy by %s", name, by.name)
		if err := w.into(r.add(name+": first copy"), by, t, dst(by)); err != nil {
			return err
		}
	}
	for round := range w.settings.rounds {
		say("%s: round %d of %d", name, round+1, w.settings.rounds)
		for _, by := range turns(round, ways) {
			if err := w.into(r.add(name+": nothing changed"), by, t, dst(by)); err != nil {
				return err
			}
		}
	}
	if err := w.measureKnown(r.add(name+": nothing changed"), t, dst(budgieWay)); err != nil {
		return err
	}
	return errors.Join(forget(dst(ways[0])), forget(dst(ways[1])), os.RemoveAll(t.dir))
}

// The tree for the limited link.
const (
	slowFiles = 2000
	slowBig   = 64 << 20
)

// measureSlow measures over a link with a limited rate.
func (w *world) measureSlow(r *result) error {
	t, err := grow(filepath.Join(w.base, "slow"), slowFiles, smallSize, slowBig)
	if err != nil {
		return err
	}
	w.a.NIC(0).Limit(w.settings.rate * 1_000_000)
	defer w.a.NIC(0).Limit(0)
	link := fmt.Sprintf("Over a link of %d MB/s, %d files and one of %d MiB: ", w.settings.rate, slowFiles, slowBig>>20)
	ways := []way{rsyncWay(nameRsync), budgieWay}
	for round := range min(2, w.settings.rounds) {
		say("over a limited link: round %d", round+1)
		for _, what := range []string{"first copy", "one byte of the big file changed"} {
			if what != "first copy" {
				if err := t.oneByte(); err != nil {
					return err
				}
			}
			for _, by := range turns(round, ways) {
				dst := filepath.Join(w.base, "slow-by-"+by.name)
				if what == "first copy" {
					if err := anew(by, dst, t.dir); err != nil {
						return err
					}
				}
				if err := w.into(r.add(link+what), by, t, dst); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
