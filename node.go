package budgie

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/budgiehq/budgie/internal/ownership"
)

// loadNode returns the id of this node, 64 hexadecimal characters, which it
// keeps in the data directory from the first use on. A client with a store of
// its own has no data directory to keep it in, and is a new node every time.
func (c *Client) loadNode() (string, error) {
	if c.cfg.store != nil {
		return newID(), nil
	}
	path := filepath.Join(c.cfg.dataDir, "node-id")
	for {
		text, err := os.ReadFile(path)
		if err == nil {
			id := string(bytes.TrimSpace(text))
			if raw, err := hex.DecodeString(id); err != nil || len(raw) != 32 {
				return "", fmt.Errorf("%s does not hold a node id (64 hexadecimal characters): remove it to get a new one", path)
			}
			return id, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		if err := createOnce(path, []byte(newID()+"\n")); err != nil {
			return "", fmt.Errorf("create node id: %w", err)
		}
	}
}

// createOnce writes a file that several processes may try to create at the
// same time: one of them wins, and nobody sees half a file.
func createOnce(path string, data []byte) error {
	tmp, err := ownership.OpenFile(path+".tmp-"+newID()[:16], os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(tmp.Name()) }()
	_, err = tmp.Write(data)
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	if err := os.Link(tmp.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}
