package budgie

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/budgiehq/budgie/internal/hostdir"
)

// The copies of volumes are below the data directory:
//
//	volumes/                mode 0700, as the next one
//	volumes/SERVICE/        by the first half of the service's id
//	volumes/SERVICE/NAME/   the copy, with the mode of its source
//	volumes/SERVICE/NAME.*  what the Syncer keeps beside it: see [replica.Remember]
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

// prepareSeed makes the directories above a copy.
func prepareSeed(dir string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return err
	}
	// A join that was killed may have left what it was about to write beside it.
	entries, err := os.ReadDir(filepath.Dir(dir))
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".tmp-") {
			err = errors.Join(err, os.Remove(filepath.Join(filepath.Dir(dir), e.Name())))
		}
	}
	return err
}

// finishSeed makes a copy's name survive a crash of the machine.
func finishSeed(dir string) error {
	service := filepath.Dir(dir)
	volumes := filepath.Dir(service)
	return errors.Join(hostdir.Sync(service), hostdir.Sync(volumes), hostdir.Sync(filepath.Dir(volumes)))
}
