package balance_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// newH2Client is a client that speaks HTTP/2 without TLS, on one connection as
// long as that takes further streams.
func newH2Client(t testing.TB) *http.Client {
	tr := &http.Transport{Protocols: onlyH2C(), HTTP2: &http.HTTP2Config{StrictMaxConcurrentRequests: true}}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: patience}
}

func doH2(t testing.TB, req *http.Request) reply {
	t.Helper()
	resp, err := newH2Client(t).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("reading the response to %s: %v", req.Method, err)
	}
	if resp.ProtoMajor != 2 {
		t.Errorf("the answer is of %s", resp.Proto)
	}
	return reply{resp, string(body)}
}

// rawH2 is the client's end of an HTTP/2 connection, frame by frame.
type rawH2 struct {
	*http2.Framer
	conn    net.Conn
	headers bytes.Buffer
	hpack   *hpack.Encoder
}

func newRawH2(c net.Conn) *rawH2 {
	h := &rawH2{Framer: http2.NewFramer(c, c), conn: c}
	h.hpack = hpack.NewEncoder(&h.headers)
	h.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	return h
}

func dialH2(t testing.TB, f *front, settings ...http2.Setting) *rawH2 {
	t.Helper()
	c := dial(t, f)
	h := newRawH2(c)
	if _, err := io.WriteString(c, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	if err := h.WriteSettings(settings...); err != nil {
		t.Fatal(err)
	}
	return h
}

// block returns the header of a GET, to which fields may be added, and which may be
// changed.
func (h *rawH2) block(fields ...string) []byte {
	all := []string{":method", "GET", ":scheme", "http", ":authority", "web", ":path", "/"}
	for i := 0; i < len(fields); i += 2 {
		replaced := false
		for k := 0; k < 8; k += 2 {
			if all[k] == fields[i] {
				all[k+1], replaced = fields[i+1], true
			}
		}
		if !replaced {
			all = append(all, fields[i], fields[i+1])
		}
	}
	h.headers.Reset()
	for i := 0; i < len(all); i += 2 {
		h.hpack.WriteField(hpack.HeaderField{Name: all[i], Value: all[i+1]})
	}
	return h.headers.Bytes()
}

// ask opens a stream.
func (h *rawH2) ask(t testing.TB, stream uint32, end bool, fields ...string) {
	t.Helper()
	err := h.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: h.block(fields...), EndStream: end, EndHeaders: true})
	if err != nil {
		t.Fatal(err)
	}
}

// until reads frames until one is what is looked for.
func (h *rawH2) until(t testing.TB, what string, is func(http2.Frame) bool) {
	t.Helper()
	for {
		f, err := h.ReadFrame()
		if err != nil {
			t.Fatalf("no %s came: %v", what, err)
		}
		if s, ok := f.(*http2.SettingsFrame); ok && !s.IsAck() {
			h.WriteSettingsAck()
		}
		if is(f) {
			return
		}
	}
}

// status reads until the answer to a stream begins, or the stream is reset.
func (h *rawH2) status(t testing.TB, stream uint32) string {
	t.Helper()
	status := ""
	h.until(t, "answer", func(f http2.Frame) bool {
		if f.Header().StreamID != stream {
			return false
		}
		switch f := f.(type) {
		case *http2.MetaHeadersFrame:
			status = f.PseudoValue("status")
		case *http2.RSTStreamFrame:
			status = f.ErrCode.String()
		}
		return status != ""
	})
	return status
}

// ended reads to the end of the connection.
func (h *rawH2) ended() error {
	for {
		if _, err := h.ReadFrame(); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
	}
}
