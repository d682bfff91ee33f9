package trust

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
)

// keyName is the file of a node's private key in its data directory.
const keyName = "node.key"

// keyType is the type of its PEM block, which is PKCS #8 (RFC 5958).
const keyType = "PRIVATE KEY"

// identity is a node's own key pair. It does not change with the token, and
// has nothing to do with it.
type identity struct {
	key hidden[ed25519.PrivateKey]
	id  string
}

// newIdentity makes a new node.
func newIdentity() (*identity, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key for this node: %w", err)
	}
	return identityOf(key)
}

func identityOf(key ed25519.PrivateKey) (*identity, error) {
	id, err := NodeID(key.Public())
	if err != nil {
		return nil, err
	}
	return &identity{key: hide(key), id: id}, nil
}

// loadIdentity returns the identity in a data directory, which it makes if
// there is none yet. Processes that do so at the same time agree on one.
func loadIdentity(dir string) (*identity, error) {
	path := filepath.Join(dir, keyName)
	for {
		text, err := readSecret(path)
		switch {
		case err == nil:
			i, err := decodeKey(text)
			if err != nil {
				return nil, fmt.Errorf("%s %w: %w: restore it from a copy, or remove it to make this machine a new node", path, ErrUnusable, err)
			}
			return i, nil
		case !errors.Is(err, fs.ErrNotExist):
			return nil, err
		}
		i, err := newIdentity()
		if err != nil {
			return nil, err
		}
		if text, err = i.encode(); err != nil {
			return nil, err
		}
		if err := createSecret(path, text); err != nil {
			return nil, fmt.Errorf("keep the key of this node: %w", err)
		}
	}
}

func (i *identity) encode() ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(i.key())
	if err != nil {
		return nil, fmt.Errorf("keep the key of this node: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: keyType, Bytes: der}), nil
}

// decodeKey reads what encode wrote. Its errors do not repeat it.
func decodeKey(text []byte) (*identity, error) {
	block, rest := pem.Decode(text)
	if block == nil || block.Type != keyType || len(bytes.TrimSpace(rest)) > 0 {
		return nil, errors.New("it does not hold one PEM block \"" + keyType + "\"")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("its key is damaged")
	}
	own, ok := key.(ed25519.PrivateKey)
	if !ok {
		return nil, errors.New("its key is not an Ed25519 key")
	}
	return identityOf(own)
}
