package trust

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"fmt"
	"math/big"
	"net/url"
	"strings"
	"time"
)

// The labels of what is derived: the info of HKDF-SHA256 for secrets, the
// beginning of what SHA-256 is taken of for the id. A token of another version
// gets labels of its own.
const (
	labelAuthority = "budgie flock 1: Ed25519 seed of the certificate authority"
	labelID        = "budgie flock 1: id\n"
)

// Times of certificates.
const (
	// Lifetime is how long a node's certificate is valid.
	Lifetime = time.Hour
	// MaxSkew is how far two clocks may be apart, in either direction: a
	// certificate is accepted so long before and after its validity.
	MaxSkew = 24 * time.Hour
	// Reissue is the age from which on a node makes itself a new certificate
	// for its next handshake. What is known of a peer's clock is as exact.
	Reissue = time.Minute
)

// A role is the side of a handshake that a certificate is for.
type role int

const (
	client role = iota
	server
	roles
)

func (r role) usage() x509.ExtKeyUsage {
	if r == server {
		return x509.ExtKeyUsageServerAuth
	}
	return x509.ExtKeyUsageClientAuth
}

// other is the role of the other side.
func (r role) other() role { return roles - 1 - r }

// authorityKey is the private key of the flock's certificate authority, which
// every member has.
func (t Token) authorityKey() ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(t.derive(labelAuthority, ed25519.SeedSize))
}

// flockID is the hash of the authority's public key.
func flockID(key ed25519.PrivateKey) string {
	sum := sha256.Sum256(append([]byte(labelID), key.Public().(ed25519.PublicKey)...))
	return hex.EncodeToString(sum[:flockIDLen])
}

const flockIDLen = 16

// An authority certifies the nodes of a flock, and tells them from others. It
// does not change, and may be used concurrently.
type authority struct {
	id   string
	key  hidden[ed25519.PrivateKey]
	cert *x509.Certificate
	pool *x509.CertPool
}

// newAuthority makes the authority of a token's flock. It is the same on every
// machine, to the last byte.
func newAuthority(t Token) (*authority, error) {
	key := t.authorityKey()
	id := flockID(key)
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: issuerWord + id},
		NotBefore:             time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC),
		NotAfter:              time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), // RFC 5280 section 4.1.2.5: no end
		KeyUsage:              x509.KeyUsageCertSign,
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make the certificate authority of the flock: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("make the certificate authority of the flock: %w", err)
	}
	a := &authority{id: id, key: hide(key), cert: cert, pool: x509.NewCertPool()}
	a.pool.AddCert(cert)
	return a, nil
}

// issuerWord is how the common name of every flock's authority begins.
const issuerWord = "budgie flock "

// claimedFlock returns the flock whose authority a certificate says it is from,
// "" where it does not say so. Nothing proves it.
func claimedFlock(cert *x509.Certificate) string {
	id, ok := strings.CutPrefix(cert.Issuer.CommonName, issuerWord)
	if raw, err := hex.DecodeString(id); !ok || err != nil || len(raw) != flockIDLen {
		return ""
	}
	return id
}

// issue certifies a node for one side of handshakes, from now on.
func (a *authority) issue(i *identity, r role, now time.Time) (*tls.Certificate, error) {
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: i.id},
		NotBefore:             now,
		NotAfter:              now.Add(Lifetime),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{r.usage()},
		BasicConstraintsValid: true,
		URIs:                  []*url.URL{nodeURI(a.id, i.id)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, i.key().Public(), a.key())
	if err != nil {
		return nil, fmt.Errorf("certify this node: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("certify this node: %w", err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: i.key(), Leaf: leaf}, nil
}

// nodeURI is the one name in a node's certificate.
func nodeURI(flock, node string) *url.URL {
	return &url.URL{Scheme: "budgie", Host: flock, Path: "/node/" + node}
}

// NodeID returns the id of the node with a public key: 64 hexadecimal
// characters, the SHA-256 of the key's SubjectPublicKeyInfo in DER.
func NodeID(key crypto.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return "", fmt.Errorf("node id: %w", err)
	}
	return nodeID(der), nil
}

func nodeID(spki []byte) string {
	sum := sha256.Sum256(spki)
	return hex.EncodeToString(sum[:])
}
