package replica

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// The protocol. Everything travels in frames: a type (1 byte), the payload's
// length (4 bytes, big endian as all numbers here), the payload. The sides
// take turns, so a connection needs no buffer of its own:
//
//	receiver  hello     magic, lowest and highest version it speaks (2 bytes each)
//	sender    hello     magic, the version chosen
//	receiver  keeps     what it can keep, its user and group (see keeps.go),
//	                    and what the copy was when it was last complete (see base.go)
//	then, until the sender ends with done:
//	sender    entries*  the manifest, sorted by path (see manifest.go)
//	          leftOut?  what the receiver cannot keep and the source has
//	          manifest  number of entries (4 bytes), digest of the tree
//	          or, instead of entries and manifest:
//	          same      it is what the copy was
//	          or, instead of entries alone:
//	          since removed* entries*  what turns what the copy was into it (see past.go)
//	receiver  want*     indexes of files to send (4 bytes each), ascending
//	          have*     of these: index, digest of what is in its place
//	          wantEnd   0: the copy is all, 1: it follows
//	sender    ((data | zeros | copy)* fileEnd)* per wanted file; fileEnd says
//	          1: complete, 0: changed meanwhile, forget it
//	          before a file, chunks asks for the list of what is in its place:
//	receiver  chunkList* the last one without a payload
//	after copy in a complete file:
//	receiver  want* wantEnd  the files that came out wrong
//	sender    ((data | zeros)* fileEnd)*
//	then:
//	sender    again     the source changed: another manifest follows
//	          or done   the source is still as the manifest says, or the
//	                    receiver follows
//	then:
//	receiver  (removed* entries* manifest)?  of a copy that follows: what it
//	                    has instead of files that changed meanwhile (see patch.go)
//	          verified  digest of its tree, number of entries removed (4 bytes)
//	sender    bye       digest of its tree
//	receiver  next      0: nothing more; else, again and again:
//	sender    idle      how the source is (see lead.go)
//	receiver  next
//	or
//	sender    removed* entries* manifest  what turns the copy into the source,
//	                    and on from want as above; or, instead of want to wantEnd:
//	receiver  hold      the copy stays as it is
//	sender    idle
//
// In place of any frame a side may send error: a code (1 byte) and a text. The
// layout of frames, of hello and of error is the same in all versions.
const (
	frameHello byte = iota + 1
	frameError
	frameEntries
	frameManifest
	frameWant
	frameWantEnd
	frameData
	frameFileEnd
	frameAgain
	frameDone
	frameVerified
	frameBye
	frameNext
	frameIdle
	frameRemoved
	frameHold
)

const (
	magic      = "budgie/v" // 8 bytes that no other protocol begins with
	minVersion = 2
	maxVersion = 4
	// version3 is the version from which on frames may come packed (see pack.go), and a
	// receiver may ask for a full check (see keeps.go) and say what its copy was (see
	// base.go).
	version3 = 3
	// version4 is the version from which on a sender may say what has changed since (see
	// past.go).
	version4 = 4
)

// Hard limits. What is beyond them is refused before memory is spent on it.
const (
	maxFrame         = 64 << 10
	maxErrorText     = 1 << 10
	maxEntries       = 1 << 20
	maxManifestBytes = 128 << 20
	maxPath          = 4096
	maxName          = 255
	maxDepth         = 255
	maxTarget        = 4096
	maxFileSize      = 1 << 44
	maxRounds        = 5
)

// errorTimeout bounds how long telling the other side about an error may take,
// where the connection has deadlines.
const errorTimeout = 5 * time.Second

// codes are the errors that keep their identity over the wire. Code 0 is any
// other.
var codes = [...]error{1: ErrProtocol, 2: ErrVersion, 3: ErrChanged, 4: ErrVerify, 5: ErrEmptied, 6: ErrNames}

// remoteError is what the other side says went wrong there.
type remoteError struct {
	kind error // one of codes, or nil
	text string
}

func (e *remoteError) Error() string { return "the other side failed: " + e.text }

func (e *remoteError) Unwrap() error { return e.kind }

// wire reads and writes frames.
type wire struct {
	conn io.ReadWriter
	// bare is the connection as it was given, which may have deadlines.
	bare io.ReadWriter
	out  *bufio.Writer
	in   []byte
	// highest is the highest version that this side speaks, version the one that
	// both do.
	highest, version uint16
	packer           packer
	unpacker         unpacker
	// mayWrite is true while it is this side's turn: only then does the other
	// one read.
	mayWrite bool
}

func newWire(conn io.ReadWriter) *wire {
	w := &wire{conn: conn, bare: conn, highest: maxVersion, packer: packer{conn: conn}}
	w.out = bufio.NewWriterSize(&w.packer, maxFrame+5)
	return w
}

func (w *wire) write(kind byte, payload ...[]byte) error {
	if w.version >= version3 && packable(kind) && len(payload) == 1 {
		if packed, pays := w.packer.pack(payload[0]); pays {
			kind, payload = framePacked, [][]byte{{kind}, packed}
		}
	}
	n := 0
	for _, p := range payload {
		n += len(p)
	}
	var head [5]byte
	head[0] = kind
	binary.BigEndian.PutUint32(head[1:], uint32(n))
	w.mayWrite = true
	_, err := w.out.Write(head[:])
	for _, p := range payload {
		if err == nil {
			_, err = w.out.Write(p)
		}
	}
	return w.broken(err)
}

// flush ends this side's turn.
func (w *wire) flush() error {
	err := w.broken(w.out.Flush())
	w.mayWrite = false
	return err
}

// broken notes that nothing more can be said after a failed write.
func (w *wire) broken(err error) error {
	if err == nil {
		return nil
	}
	w.mayWrite = false
	return fmt.Errorf("writing to the other side: %w", err)
}

// read returns the next frame. The payload is valid until the next read. It
// never reads beyond the frame.
func (w *wire) read() (kind byte, payload []byte, err error) {
	var head [5]byte
	if _, err := io.ReadFull(w.conn, head[:]); err != nil {
		return 0, nil, lost(err)
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n > maxFrame {
		return 0, nil, fmt.Errorf("%w: frame of %d bytes, at most %d are allowed", ErrProtocol, n, maxFrame)
	}
	if w.in == nil {
		w.in = make([]byte, maxFrame)
	}
	payload = w.in[:n]
	if _, err := io.ReadFull(w.conn, payload); err != nil {
		return 0, nil, lost(err)
	}
	if head[0] == frameError {
		return 0, nil, decodeError(payload)
	}
	if head[0] == framePacked && w.version >= version3 {
		return w.unpacker.unpack(payload)
	}
	return head[0], payload, nil
}

// expect reads a frame that must be of one kind and, unless size is negative,
// of one size.
func (w *wire) expect(kind byte, size int) ([]byte, error) {
	got, payload, err := w.read()
	if err != nil {
		return nil, err
	}
	if got != kind || size >= 0 && len(payload) != size {
		return nil, unexpected(got, len(payload))
	}
	return payload, nil
}

func unexpected(kind byte, size int) error {
	return fmt.Errorf("%w: frame type %d of %d bytes is not expected here", ErrProtocol, kind, size)
}

func lost(err error) error {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("the other side is gone before the copy was complete: %w", err)
}

func decodeError(payload []byte) error {
	if len(payload) < 1 || len(payload) > 1+maxErrorText {
		return fmt.Errorf("%w: malformed error frame", ErrProtocol)
	}
	// The text goes to logs and terminals: nothing in it may control those.
	e := &remoteError{text: strings.Map(printable, strings.ToValidUTF8(string(payload[1:]), "?"))}
	if code := int(payload[0]); code < len(codes) {
		e.kind = codes[code]
	}
	return e
}

func printable(r rune) rune {
	if r < ' ' || r >= 0x7f && r < 0xa0 {
		return '?'
	}
	return r
}

// reportError tells the other side why this one gives up, if it listens now.
func (w *wire) reportError(err error) {
	var remote *remoteError
	if !w.mayWrite || errors.As(err, &remote) {
		return
	}
	if d, ok := w.bare.(interface{ SetWriteDeadline(time.Time) error }); ok {
		_ = d.SetWriteDeadline(time.Now().Add(errorTimeout))
	}
	code := byte(0)
	for i, kind := range codes {
		if kind != nil && errors.Is(err, kind) {
			code = byte(i)
		}
	}
	text := err.Error()
	if len(text) > maxErrorText {
		text = text[:maxErrorText]
	}
	if w.write(frameError, []byte{code}, []byte(text)) == nil {
		_ = w.flush() // err itself is what the caller learns
	}
}

// greet is the receiver's part of the negotiation.
func (w *wire) greet() error {
	hello := binary.BigEndian.AppendUint16([]byte(magic), minVersion)
	hello = binary.BigEndian.AppendUint16(hello, w.highest)
	if err := w.write(frameHello, hello); err != nil {
		return err
	}
	if err := w.flush(); err != nil {
		return err
	}
	reply, err := w.expect(frameHello, len(magic)+2)
	if err != nil {
		return err
	}
	version := binary.BigEndian.Uint16(reply[len(magic):])
	if string(reply[:len(magic)]) != magic || version < minVersion || version > w.highest {
		return fmt.Errorf("%w: the sender chose version %d, which was not offered", ErrProtocol, version)
	}
	w.version = version
	return nil
}

// welcome is the sender's part of the negotiation. It asks ready before it says
// that this side will send.
func (w *wire) welcome(ready func() error) error {
	hello, err := w.expect(frameHello, len(magic)+4)
	if err != nil {
		return err
	}
	w.mayWrite = true
	if string(hello[:len(magic)]) != magic {
		return fmt.Errorf("%w: not a volume receiver", ErrProtocol)
	}
	lowest, highest := binary.BigEndian.Uint16(hello[len(magic):]), binary.BigEndian.Uint16(hello[len(magic)+2:])
	version := min(highest, w.highest)
	if version < max(lowest, minVersion) {
		return fmt.Errorf("%w: the receiver speaks %d to %d, the sender %d to %d; update the older of the two",
			ErrVersion, lowest, highest, minVersion, maxVersion)
	}
	if err := ready(); err != nil {
		return err
	}
	if err := w.write(frameHello, []byte(magic), binary.BigEndian.AppendUint16(nil, version)); err != nil {
		return err
	}
	w.version = version
	return w.flush()
}
