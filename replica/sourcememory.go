package replica

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// RememberSources makes the Copier keep, in a directory that it makes if needed, what
// it knows of each directory that it sends: the digests of its files, with what tells
// whether they changed since, and the chunks of large ones, which take about a
// four-hundredth of their size, and 32 MiB at most. After a restart only what changed is
// read again. It is the caller's own directory, and nobody else writes there. Of more
// than 64 sources those go that were of no use for longest; what cannot be read is
// written anew.
func RememberSources(dir string) Option { return func(c *Copier) { c.sourcesDir = dir } }

const (
	// mostSources is how many sources are remembered.
	mostSources = 64
	// sourceStoreEvery is how often what is known of a source that changes is stored.
	sourceStoreEvery = 10 * time.Minute
	sourceSuffix     = ".source"
)

// memoryOf returns where a source is remembered, "" for nowhere.
func (c *Copier) memoryOf(dir string) string {
	if c.sourcesDir == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(dir))
	return filepath.Join(c.sourcesDir, hex.EncodeToString(sum[:16])+sourceSuffix)
}

// recalled returns what was known of the source's files when it was last stored.
func (s *source) recalled() map[string]*hashed {
	if s.memory == "" {
		return make(map[string]*hashed)
	}
	s.recallLists()
	s.keepPast()
	known, tree, err := loadKnown(s.memory)
	if err != nil {
		s.log.Warn("what is remembered of a volume cannot be read: all of it is read again", "error", err)
	}
	if known == nil || err != nil {
		return make(map[string]*hashed)
	}
	s.recalls, s.recalledTree = true, tree
	return known
}

// remember stores what is known of the source, if that is something else than what was
// stored and, unless now, the last time was a while ago. The caller holds looking.
func (s *source) remember(seen *sight, now bool) {
	if s.memory == "" || seen == nil || !now && time.Since(s.storedAt) < sourceStoreEvery {
		return
	}
	s.storedAt = time.Now()
	err := os.MkdirAll(filepath.Dir(s.memory), 0o700)
	if err == nil {
		err = errors.Join(s.rememberFiles(seen), s.rememberLists(seen), pruneSources(filepath.Dir(s.memory)))
	}
	if err != nil {
		s.log.Warn("what is known of a volume cannot be stored: after a restart all of it is read again", "error", err)
	}
}

// rememberFiles stores the digests of files.
func (s *source) rememberFiles(seen *sight) error {
	if seen == s.stored {
		return nil
	}
	first := s.stored == nil
	s.stored = seen
	if first && s.recalls && s.index.scanner.learned == 0 && seen.digest() == s.recalledTree {
		_ = os.Chtimes(s.memory, time.Time{}, s.storedAt) // else pruneSources may have it read again, no more
		return nil                                        // it has all that is worth remembering
	}
	return storeMemory(s.memory, s.index.scanner.known, func(add func(e entry, mark uint32)) error {
		return seen.each(func(e entry) { add(e, 0) })
	})
}

// each calls do for all that was seen, as it is stored.
func (s *sight) each(do func(e entry)) error {
	return eachEntry(s.all, ability{keeps: keepAll}, func(e entry, _ keeps) error {
		do(e)
		return nil
	})
}

// digest identifies what was seen.
func (s *sight) digest() digest {
	sum := newTreeSum()
	_ = s.each(sum.add) // it returns nil
	return sum.digest()
}

// pruneSources removes the oldest of too many files.
func pruneSources(dir string) error {
	entries, err := os.ReadDir(dir)
	var names []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), sourceSuffix) {
			names = append(names, filepath.Join(dir, e.Name()))
		}
	}
	if err != nil || len(names) <= mostSources {
		return err
	}
	written := make(map[string]time.Time)
	for _, name := range names {
		if info, err := os.Stat(name); err == nil {
			written[name] = info.ModTime()
		}
	}
	slices.SortFunc(names, func(a, b string) int { return written[a].Compare(written[b]) })
	for _, name := range names[:len(names)-mostSources] {
		err = errors.Join(err, forgetSource(name))
	}
	return err
}
