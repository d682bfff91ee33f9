package peer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// alpnVolume is the protocol of connections that carry a volume, beside alpn.
//
// After the handshake the client says what it wants, and the node answers:
//
//	client  version (1 byte), length of the rest (2 bytes, big endian), id of a
//	        container (64 hexadecimal characters), target of one of its volumes
//	node    version (1 byte), status (1 byte), length of a text (2 bytes), text
//
// The layout but for what follows the length is the same in all versions, so
// that a node can refuse one that it does not speak. After the status
// volumeGranted, which has no text, the connection belongs to the two sides'
// Syncers, the node's as the sender, until one of them closes it.
const alpnVolume = "budgie-sync/1"

// volumeVersion is the version of what is said before the Syncers talk.
const volumeVersion = 1

// maxVolumeRequest is the size of a request's rest: an id and the longest path.
const maxVolumeRequest = idLength + 4096

// idLength is the length of an id.
const idLength = 64

// maxVolumeText is the size of an answer's text.
const maxVolumeText = 4 * maxText

// volumeStatus is a node's answer to the request for a volume.
type volumeStatus byte

const (
	volumeGranted volumeStatus = iota
	volumeNotFound
	volumeBusy
	volumeRefused
)

// volumeKinds are the errors of the statuses.
var volumeKinds = map[volumeStatus]error{volumeNotFound: ErrNotFound, volumeBusy: ErrBusy, volumeRefused: ErrRefused}

// encodeVolumeRequest returns the bytes that ask for a volume.
func encodeVolumeRequest(id, target string) ([]byte, error) {
	if err := checkVolume(id, target); err != nil {
		return nil, err
	}
	head := binary.BigEndian.AppendUint16([]byte{volumeVersion}, uint16(len(id)+len(target)))
	return append(append(head, id...), target...), nil
}

// readVolumeRequest reads what encodeVolumeRequest wrote, and not a byte more.
// What it did not like is an ErrInvalid.
func readVolumeRequest(r io.Reader) (id, target string, err error) {
	var head [3]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return "", "", err
	}
	n := binary.BigEndian.Uint16(head[1:])
	switch {
	case head[0] != volumeVersion:
		return "", "", fmt.Errorf("%w: this node speaks version %d of the requests for volumes, not %d: update the older Budgie of the two", ErrInvalid, volumeVersion, head[0])
	case n < idLength || n > maxVolumeRequest:
		return "", "", fmt.Errorf("%w: a request of %d bytes", ErrInvalid, n)
	}
	rest := make([]byte, n)
	if _, err := io.ReadFull(r, rest); err != nil {
		return "", "", err
	}
	id, target = string(rest[:idLength]), string(rest[idLength:])
	return id, target, checkVolume(id, target)
}

// checkVolume says what is wrong with the words for a volume. A target is only
// ever compared with those of a container; that it looks like one keeps
// surprises out of logs.
func checkVolume(id, target string) error {
	switch {
	case !isID(id):
		return fmt.Errorf("%w: a container's id has 64 hexadecimal characters", ErrInvalid)
	case !strings.HasPrefix(target, "/") || len(target) > maxVolumeRequest-idLength || !utf8.ValidString(target) || strings.ContainsRune(target, 0),
		slices.Contains(strings.Split(target, "/"), ".."):
		return fmt.Errorf("%w: a volume's target is an absolute path without \"..\"", ErrInvalid)
	}
	return nil
}

// encodeVolumeAnswer returns the bytes of an answer.
func encodeVolumeAnswer(s volumeStatus, text string) []byte {
	text = plain(text, maxText)
	head := binary.BigEndian.AppendUint16([]byte{volumeVersion, byte(s)}, uint16(len(text)))
	return append(head, text...)
}

// readVolumeAnswer reads what encodeVolumeAnswer wrote, and not a byte more. It
// returns the error that the answer stands for.
func readVolumeAnswer(r io.Reader) error {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	n, status := binary.BigEndian.Uint16(head[2:]), volumeStatus(head[1])
	kind, refused := volumeKinds[status]
	switch {
	case head[0] != volumeVersion:
		return fmt.Errorf("%w: it answers in version %d of the protocol for volumes, and this machine speaks %d: update the older Budgie of the two", ErrInvalid, head[0], volumeVersion)
	case status == volumeGranted && n == 0:
		return nil
	case !refused || n > maxVolumeText:
		return fmt.Errorf("%w: status %d with a text of %d bytes", ErrInvalid, status, n)
	}
	text := make([]byte, n)
	if _, err := io.ReadFull(r, text); err != nil {
		return err
	}
	return &answerError{[]error{kind}, plain(string(text), maxText)}
}

// volumeAnswer returns the answer that tells of an error, and whether this node
// should say more in its log.
func volumeAnswer(err error) (s volumeStatus, text string, strange bool) {
	switch {
	case errors.Is(err, ErrNotFound):
		return volumeNotFound, "this node has no such container with such a volume", false
	case errors.Is(err, ErrRefused):
		return volumeRefused, strings.TrimPrefix(err.Error(), ErrRefused.Error()+": "), false
	case errors.Is(err, ErrInvalid):
		return volumeRefused, strings.TrimPrefix(err.Error(), ErrInvalid.Error()+": "), false
	}
	return volumeRefused, "this node could not answer; its log says why", true
}
