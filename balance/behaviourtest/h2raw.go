package behaviourtest

import (
	"bytes"
	"strings"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// h2conn is the client's end of an HTTP/2 connection, frame by frame.
type h2conn struct {
	*http2.Framer
	c       *conn
	headers bytes.Buffer
	hpack   *hpack.Encoder
	mute    bool // nothing is acknowledged
}

// dialH2 opens a connection and says the preface.
func (t *T) dialH2(p Proxy) *h2conn {
	c := t.dial(p)
	h := &h2conn{Framer: http2.NewFramer(c, c.r), c: c}
	h.hpack = hpack.NewEncoder(&h.headers)
	h.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	c.send(http2.ClientPreface)
	if err := h.WriteSettings(); err != nil {
		t.fatalf("beginning HTTP/2: %v", err)
	}
	return h
}

// block encodes the fields of a GET. Of those that are given, pseudo-header
// fields replace it; an empty value leaves one out.
func (h *h2conn) block(fields ...string) []byte {
	all := []string{":method", "GET", ":scheme", "http", ":authority", host, ":path", "/"}
	var more []string
	for i := 0; i < len(fields); i += 2 {
		known := false
		for k := 0; k < len(all); k += 2 {
			if all[k] == fields[i] {
				all[k+1], known = fields[i+1], true
			}
		}
		if !known {
			more = append(more, fields[i], fields[i+1])
		}
	}
	h.headers.Reset()
	for i := 0; i < len(all); i += 2 {
		if all[i+1] != "" {
			h.hpack.WriteField(hpack.HeaderField{Name: all[i], Value: all[i+1]})
		}
	}
	for i := 0; i < len(more); i += 2 {
		h.hpack.WriteField(hpack.HeaderField{Name: more[i], Value: more[i+1]})
	}
	return h.headers.Bytes()
}

// ask opens a stream. That it fails shows in what comes back.
func (h *h2conn) ask(stream uint32, end bool, fields ...string) {
	h.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: h.block(fields...), EndStream: end, EndHeaders: true})
}

func (h *h2conn) growWindow(stream, by uint32) { h.WriteWindowUpdate(stream, by) }

// next reads a frame and acknowledges what wants to be.
func (h *h2conn) next() (http2.Frame, error) {
	f, err := h.ReadFrame()
	switch f := f.(type) {
	case *http2.SettingsFrame:
		if !f.IsAck() && !h.mute {
			h.WriteSettingsAck()
		}
	case *http2.PingFrame:
		if !f.IsAck() && !h.mute {
			h.WritePing(true, f.Data)
		}
	}
	return f, err
}

// status reads until a stream is answered, and returns the status, or how it
// ended: the error of a RST_STREAM or GOAWAY, or "closed".
func (h *h2conn) status(stream uint32) string {
	for {
		f, err := h.next()
		if err != nil {
			if isTimeout(err) {
				return "silence"
			}
			return "closed"
		}
		switch f := f.(type) {
		case *http2.GoAwayFrame:
			if f.ErrCode != http2.ErrCodeNo {
				return f.ErrCode.String()
			}
		case *http2.RSTStreamFrame:
			if f.StreamID == stream {
				return f.ErrCode.String()
			}
		case *http2.MetaHeadersFrame:
			if f.StreamID == stream && !strings.HasPrefix(f.PseudoValue("status"), "1") {
				return f.PseudoValue("status")
			}
		}
	}
}

// data reads what is left of a response.
func (h *h2conn) data(stream uint32) string {
	var body []byte
	for {
		f, err := h.next()
		if err != nil {
			return string(body)
		}
		if d, ok := f.(*http2.DataFrame); ok && d.StreamID == stream {
			body = append(body, d.Data()...)
		}
		if f.Header().StreamID == stream && f.Header().Flags.Has(http2.FlagDataEndStream) {
			return string(body)
		}
	}
}

// ends reports whether the connection ends within d, or the proxy says that it
// does.
func (h *h2conn) ends(d time.Duration) bool {
	h.c.SetReadDeadline(time.Now().Add(d))
	for {
		f, err := h.next()
		if _, ok := f.(*http2.GoAwayFrame); ok {
			return true
		}
		if err != nil {
			return !isTimeout(err)
		}
	}
}

// endlessHeader sends a header until the connection breaks, 16 MiB at most. What it
// returns is closed after that.
func (h *h2conn) endlessHeader() <-chan struct{} {
	h.mute = true
	done := make(chan struct{})
	go func() {
		defer close(done)
		h.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: bytes.Clone(h.block()), EndStream: true})
		for range 1024 {
			h.headers.Reset()
			h.hpack.WriteField(hpack.HeaderField{Name: "x-more", Value: strings.Repeat("~", 8<<10), Sensitive: true})
			if h.WriteContinuation(1, false, h.headers.Bytes()) != nil {
				return
			}
		}
	}()
	return done
}
