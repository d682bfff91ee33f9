package http1

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"net/http/httputil"
	"slices"
	"strings"
	"testing"
)

func TestPlainResponses(t *testing.T) {
	for _, c := range []struct {
		in, out string
		isHead  bool
		want    Response
	}{
		{in: "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: keep-alive\r\nDate: now\r\n\r\nabc",
			out: "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nDate: now\r\n", want: Response{Status: 200, Length: 3, Dated: true}},
		{in: "HTTP/1.1 404 \r\nTransfer-Encoding: Chunked\r\nconnection: Close\r\n\r\n",
			out: "HTTP/1.1 404 \r\nTransfer-Encoding: Chunked\r\n", want: Response{Status: 404, Length: -1, Close: true}},
		{in: "HTTP/1.1 200 OK\r\nContent-Length: 300\r\n\r\n", isHead: true,
			out: "HTTP/1.1 200 OK\r\nContent-Length: 300\r\n", want: Response{Status: 200}},
		{in: "HTTP/1.1 204 No Content\r\nKeep-Alive: 5\r\n\r\n", out: "HTTP/1.1 204 No Content\r\n", want: Response{Status: 204}},
		{in: "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", out: "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n", want: Response{Status: 304}},
	} {
		var r Response
		out, v := r.Parse([]byte(c.in), nil, c.isHead)
		r.lengths, r.chunked = 0, false
		c.want.Head = strings.Index(c.in, "\r\n\r\n") + 4
		if v != Plain || string(out) != c.out || r != c.want {
			t.Errorf("%q: verdict %d, got\n%+v %q, want\n%+v %q", c.in, v, r, out, c.want, c.out)
		}
		for n := range c.want.Head {
			if _, v := r.Parse([]byte(c.in[:n]), nil, c.isHead); v != Incomplete {
				t.Errorf("%q: verdict %d", c.in[:n], v)
			}
		}
	}
}

var otherResponses = []string{
	"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n",
	"HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 101 S\r\nUpgrade: x\r\n\r\n", "HTTP/1.1 099 S\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 600 S\r\nContent-Length: 0\r\n\r\n",
	"HTTP/1.1 20x OK\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n", "ICY 200 OK\r\nContent-Length: 0\r\n\r\n",
	"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
	"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
	"HTTP/1.1 204 N\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 304 N\r\nTransfer-Encoding: chunked\r\n\r\n",
	"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nTrailer: x\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: x\r\n\r\n",
	"HTTP/1.1 502 B\r\nContent-Length: 0\r\nProxy-Status: budgie\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nA: b\r\n c\r\n\r\n",
	"HTTP/1.1 200 OK\nContent-Length: 0\n\n", "HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n", "HTTP/1.1 200 O\rK\r\nContent-Length: 0\r\n\r\n",
}

func TestOtherResponses(t *testing.T) {
	for _, in := range otherResponses {
		var r Response
		if _, v := r.Parse([]byte(in), nil, false); v != Other {
			t.Errorf("%q: verdict %d", in, v)
		}
	}
}

// FuzzResponse compares with net/http: what is plain here has the same length there,
// and what goes to the client is the same response.
func FuzzResponse(f *testing.F) {
	for _, s := range otherResponses {
		f.Add([]byte(s), false)
	}
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\nA: b\r\n\r\nabc"), true)
	f.Add([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"), false)
	f.Fuzz(func(t *testing.T, in []byte, isHead bool) {
		var r Response
		out, v := r.Parse(in, nil, isHead)
		if v != Plain {
			return
		}
		req := &http.Request{Method: http.MethodGet}
		if isHead {
			req.Method = http.MethodHead
		}
		want, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(in)), req)
		if err != nil {
			t.Fatalf("net/http: %v", err)
		}
		got, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(append(out, "\r\n"...))), req)
		if err != nil {
			t.Fatalf("for the client: %v: %q", err, out)
		}
		length := want.ContentLength
		if isHead || want.Body == http.NoBody {
			length = 0
		}
		if r.Status != want.StatusCode || r.Close != want.Close || r.Length != length || got.Close ||
			got.StatusCode != want.StatusCode || got.ContentLength != want.ContentLength || !slices.Equal(got.TransferEncoding, want.TransferEncoding) {
			t.Fatalf("got %+v, for the client %+v, want %+v", r, got, want)
		}
		for _, name := range hopByHop {
			delete(want.Header, name)
		}
		same(t, got.Header, want.Header)
	})
}

// FuzzChunks compares with net/http, whatever parts the body comes in.
func FuzzChunks(f *testing.F) {
	f.Add([]byte("3\r\nabc\r\n0\r\n\r\nrest"), uint8(2))
	f.Add([]byte("3;a=\"b\"\r\nabc\r\n000\r\nA: b\r\nContent-Length: 4\r\n\r\n"), uint8(7))
	for _, s := range []string{"", "x", "3\nabc\r\n0\r\n\r\n", "3\r\nabcd\r\n", "fffffffffffffffff\r\n", "3 \r\nabc\r\n", "3 \t\r\nabc\r\n0000000000000000 \r\n\r\n", "0000000000000001;a b\r\na\r\n0\r\n\r\n", "3\r\nabc\n0\r\n\r\n", "-1\r\n", "0\r\n folded\r\n\r\n"} {
		f.Add([]byte(s), uint8(1))
	}
	f.Fuzz(func(t *testing.T, in []byte, part uint8) {
		var c Chunks
		var kept []byte
		n := 0
		for rest := in; len(rest) > 0 && !c.InTrailer(); {
			p := bytes.Clone(rest[:min(len(rest), int(part)+1)])
			k, stay, err := c.Scan(p)
			n += k
			if err != nil {
				return
			}
			kept = append(kept, p[:stay]...)
			rest = rest[k:]
		}
		var whole Chunks
		out := bytes.Clone(in)
		if m, stay, err := whole.Scan(out); err != nil || m != n || whole.InTrailer() != c.InTrailer() || whole.Data() != c.Data() || !bytes.Equal(out[:stay], kept) {
			t.Fatalf("in parts %d bytes of which %d are data, as a whole %d, %d, %v", n, c.Data(), m, whole.Data(), err)
		}
		if !c.InTrailer() {
			return
		}
		data, err := io.ReadAll(httputil.NewChunkedReader(bytes.NewReader(in[:n])))
		if err != nil && !strings.Contains(err.Error(), "too much overhead") || err == nil && int64(len(data)) != c.Data() {
			t.Fatalf("net/http reads %d bytes, %v; want %d", len(data), err, c.Data())
		}
		if passed, err := io.ReadAll(httputil.NewChunkedReader(bytes.NewReader(kept))); err == nil && !bytes.Equal(passed, data) || bytes.ContainsAny(kept[:bytes.IndexByte(kept, '\n')], "; \t") {
			t.Fatalf("%q became %q, of which net/http reads %q, %v", in[:n], kept, passed, err)
		}
		used, out, v := Trailer(in[n:], nil)
		if v != Plain {
			return
		}
		if !bytes.HasSuffix(out, []byte("\r\n")) || bytes.Count(out, []byte("\n")) > bytes.Count(in[n:n+used], []byte("\n")) {
			t.Fatalf("trailers %q became %q", in[n:n+used], out)
		}
	})
}

func TestTrailer(t *testing.T) {
	for _, c := range []struct {
		in, out string
		v       Verdict
	}{
		{"\r\nnext", "\r\n", Plain},
		{"A: b\r\nContent-Length: 5\r\ntransfer_encoding: chunked\r\nC:d\r\n\r\nnext", "A: b\r\nC: d\r\n\r\n", Plain},
		{"\r", "", Incomplete}, {"A: b\r\n", "", Incomplete}, {"A: b\n\n", "", Other}, {"A b\r\n\r\n", "", Other}, {"A: b\r\n c\r\n\r\n", "", Other},
	} {
		n, out, v := Trailer([]byte(c.in), nil)
		if v != c.v || v == Plain && (string(out) != c.out || c.in[n:] != "next") {
			t.Errorf("%q: verdict %d, %q, %d bytes; want %q", c.in, v, out, n, c.out)
		}
	}
}
