package peer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A stream is what connections of their own carry, beside those of alpn. Its kind
// is the protocol of the connection (ALPN, RFC 7301).
//
// After the handshake the client says what it wants, and the node answers:
//
//	client  version (1 byte), length of the rest (2 bytes, big endian), id of a
//	        container (64 hexadecimal characters), which of its volumes or ports
//	node    version (1 byte), status (1 byte), length of a text (2 bytes), text
//
// The layout but for what follows the length is the same in all versions, so
// that a node can refuse one that it does not speak. After the status
// streamGranted, which has no text, the connection belongs to others until one of
// them closes it.
type streamKind struct {
	alpn string
	// noun is what is asked for, for messages, and verb what a node does with it.
	noun, verb string
	// check says what is wrong with the words for it.
	check func(subject string) error
}

var (
	// volumeStream carries a volume, by its target in the container. The sides'
	// Syncers talk, the node's as the sender.
	volumeStream = &streamKind{"budgie-sync/1", "volume", "hand out volumes", checkTarget}
	// portStream carries what a client says to a TCP port of a container, in
	// decimal, and the answers. Each side can end its direction by the
	// close_notify of TLS.
	portStream = &streamKind{"budgie-port/1", "port", "pass on connections", checkPort}
	// datagramStream carries the datagrams between a client and a UDP port of a
	// container, in decimal: each with its length (2 bytes, big-endian) before it.
	datagramStream = &streamKind{"budgie-datagram/1", "UDP port", "pass on datagrams", checkPort}
)

// streamVersion is the version of what is said before.
const streamVersion = 1

// maxStreamRequest is the size of a request's rest: an id and the longest path.
const maxStreamRequest = idLength + 4096

// idLength is the length of an id.
const idLength = 64

// maxStreamText is the size of an answer's text.
const maxStreamText = 4 * maxText

// streamStatus is a node's answer to a request.
type streamStatus byte

const (
	streamGranted streamStatus = iota
	streamNotFound
	streamBusy
	streamRefused
)

// streamKinds are the errors of the statuses.
var streamKinds = map[streamStatus]error{streamNotFound: ErrNotFound, streamBusy: ErrBusy, streamRefused: ErrRefused}

// request returns the bytes that ask for something of a container.
func (k *streamKind) request(id, subject string) ([]byte, error) {
	if err := k.checkRequest(id, subject); err != nil {
		return nil, err
	}
	head := binary.BigEndian.AppendUint16([]byte{streamVersion}, uint16(len(id)+len(subject)))
	return append(append(head, id...), subject...), nil
}

// readRequest reads what request returned, and not a byte more. What it did not
// like is an ErrInvalid.
func (k *streamKind) readRequest(r io.Reader) (id, subject string, err error) {
	var head [3]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return "", "", err
	}
	n := binary.BigEndian.Uint16(head[1:])
	switch {
	case head[0] != streamVersion:
		return "", "", fmt.Errorf("%w: this node speaks version %d of the requests for a %s, not %d: update the older Budgie of the two", ErrInvalid, streamVersion, k.noun, head[0])
	case n < idLength || n > maxStreamRequest:
		return "", "", fmt.Errorf("%w: a request of %d bytes", ErrInvalid, n)
	}
	rest := make([]byte, n)
	if _, err := io.ReadFull(r, rest); err != nil {
		return "", "", err
	}
	id, subject = string(rest[:idLength]), string(rest[idLength:])
	return id, subject, k.checkRequest(id, subject)
}

func (k *streamKind) checkRequest(id, subject string) error {
	if !isID(id) {
		return fmt.Errorf("%w: a container's id has 64 hexadecimal characters", ErrInvalid)
	}
	return k.check(subject)
}

// checkTarget says what is wrong with the target of a volume. It is only ever
// compared with those of a container; that it looks like one keeps surprises out
// of logs.
func checkTarget(target string) error {
	switch {
	case !strings.HasPrefix(target, "/") || len(target) > maxStreamRequest-idLength || !utf8.ValidString(target) || strings.ContainsRune(target, 0),
		slices.Contains(strings.Split(target, "/"), ".."):
		return fmt.Errorf("%w: a volume's target is an absolute path without \"..\"", ErrInvalid)
	}
	return nil
}

// checkPort says what is wrong with the number of a port.
func checkPort(text string) error {
	if n, err := strconv.ParseUint(text, 10, 16); err != nil || n == 0 || text != strconv.FormatUint(n, 10) {
		return fmt.Errorf("%w: a port is a number from 1 to 65535", ErrInvalid)
	}
	return nil
}

// encodeStreamAnswer returns the bytes of an answer.
func encodeStreamAnswer(s streamStatus, text string) []byte {
	text = plain(text, maxText)
	head := binary.BigEndian.AppendUint16([]byte{streamVersion, byte(s)}, uint16(len(text)))
	return append(head, text...)
}

// readStreamAnswer reads what encodeStreamAnswer returned, and not a byte more. It
// returns the error that the answer stands for.
func readStreamAnswer(r io.Reader) error {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	n, status := binary.BigEndian.Uint16(head[2:]), streamStatus(head[1])
	kind, refused := streamKinds[status]
	switch {
	case head[0] != streamVersion:
		return fmt.Errorf("%w: it answers in version %d of the protocol for streams, and this machine speaks %d: update the older Budgie of the two", ErrInvalid, head[0], streamVersion)
	case status == streamGranted && n == 0:
		return nil
	case !refused || n > maxStreamText:
		return fmt.Errorf("%w: status %d with a text of %d bytes", ErrInvalid, status, n)
	}
	text := make([]byte, n)
	if _, err := io.ReadFull(r, text); err != nil {
		return err
	}
	return &answerError{[]error{kind}, plain(string(text), maxText)}
}

// answer returns the answer that tells of an error, and whether this node should
// say more in its log.
func (k *streamKind) answer(err error) (s streamStatus, text string, strange bool) {
	switch {
	case errors.Is(err, ErrNotFound):
		return streamNotFound, "this node has no such container with such a " + k.noun, false
	case errors.Is(err, ErrRefused):
		return streamRefused, strings.TrimPrefix(err.Error(), ErrRefused.Error()+": "), false
	case errors.Is(err, ErrInvalid):
		return streamRefused, strings.TrimPrefix(err.Error(), ErrInvalid.Error()+": "), false
	}
	return streamRefused, "this node could not answer; its log says why", true
}
