package budgie

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/budgiehq/budgie/internal/hostdir"
)

// The copies of volumes are below the data directory:
//
//	volumes/                         mode 0700, as the next one
//	volumes/SERVICE/                 by the first half of the service's id
//	volumes/SERVICE/NAME/            the copy, with the mode of its source
//	volumes/SERVICE/NAME.json        what it was when it was complete: a seedRecord
//	volumes/SERVICE/NAME.kept-TIME/  what a replica changed, before the next join
//
// NAME is the volume's target, made fit for a file name, and a hash of it.

// seedDir returns the directory for the copy of a volume.
func seedDir(dataDir, service, target string) string {
	const most = 40
	words := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		}
		return '-'
	}, target)
	words = strings.Trim(words[:min(most, len(words))], "-")
	sum := sha256.Sum256([]byte(target))
	return filepath.Join(dataDir, "volumes", service[:min(32, len(service))], strings.TrimPrefix(words+"-"+hex.EncodeToString(sum[:8]), "-"))
}

// seedRecord says what a copy was when it was complete.
type seedRecord struct {
	// Target is where the container sees the volume, and Node where it came
	// from.
	Target string `json:"target"`
	Node   string `json:"node"`
	// Digest is the Syncer's, of the content.
	Digest string    `json:"digest"`
	At     time.Time `json:"at"`
	// State is the fingerprint of the files.
	State string `json:"state"`
}

// prepareSeed makes the directories above a copy, and puts aside what is there
// if it was changed since it was complete: the replica that it was made for
// wrote it, and nobody else has it. What is there of a copy that never was
// complete, or was left alone, stays for the next one to go on from.
func prepareSeed(dir string) (kept string, err error) {
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return "", err
	}
	// A join that was killed may have left what it was about to write of a record.
	half, err := filepath.Glob(filepath.Join(filepath.Dir(dir), ".tmp-*"))
	for _, file := range half {
		err = errors.Join(err, os.Remove(file))
	}
	if err != nil {
		return "", err
	}
	record := dir + ".json"
	data, err := os.ReadFile(record)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	var r seedRecord
	state, err := fingerprint(dir)
	unchanged := err == nil && json.Unmarshal(data, &r) == nil && r.State == state
	if _, err := os.Lstat(dir); err == nil && !unchanged {
		kept = dir + ".kept-" + time.Now().UTC().Format("20060102T150405.000000000Z")
		if err := os.Rename(dir, kept); err != nil {
			return "", err
		}
	}
	if err := os.Remove(record); err != nil {
		return "", err
	}
	return kept, hostdir.Sync(filepath.Dir(dir))
}

// finishSeed notes that a copy is complete, and makes that survive a crash of
// the machine.
func finishSeed(dir string, r seedRecord) error {
	var err error
	if r.State, err = fingerprint(dir); err != nil {
		r.State = "" // what cannot be looked at counts as changed later
	}
	if err := hostdir.WriteJSON(dir+".json", r); err != nil {
		return err
	}
	service := filepath.Dir(dir)
	volumes := filepath.Dir(service)
	return errors.Join(hostdir.Sync(service), hostdir.Sync(volumes), hostdir.Sync(filepath.Dir(volumes)))
}

// fingerprint returns a hash of what a tree's files look like from outside:
// names, modes, sizes and times of modification. It follows no links.
func fingerprint(dir string) (string, error) {
	h := sha256.New()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		size := info.Size()
		if info.IsDir() {
			size = 0 // it means nothing
		}
		rel, err := filepath.Rel(dir, path)
		fmt.Fprintf(h, "%q %o %d %d\n", rel, uint32(info.Mode()), size, info.ModTime().UnixNano())
		return err
	})
	return hex.EncodeToString(h.Sum(nil)), err
}
