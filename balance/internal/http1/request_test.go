package http1

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

var client = netip.MustParseAddr("192.0.2.7")

// forwarded is what every request gets.
func forwarded(host string) string {
	return "X-Forwarded-Host: " + host + "\r\nX-Forwarded-Proto: http\r\nX-Forwarded-For: 192.0.2.7\r\nForwarded: for=192.0.2.7;host=\"" + host + "\";proto=http\r\n\r\n"
}

func TestPlainRequests(t *testing.T) {
	by := NewOrigin(client)
	for _, c := range []struct{ in, out string }{
		{"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\n"},
		{"GET /a%20b?q=%zz&\" HTTP/1.1\r\nhost:\ta:80 \r\nx-Odd:1\r\n\r\n", "GET /a%20b?q=%zz&\" HTTP/1.1\r\nhost: a:80\r\nx-Odd: 1\r\n"},
		{"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nConnection: close\r\nKeep-Alive: 5\r\n\r\nabc", "POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n"},
		{"HEAD / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Host: e\r\nx_forwarded_port: 1\r\nX-REAL_IP: 1\r\nForwarded: for=1\r\nX-Forwardedly: 1\r\nX-Forward: kept\r\n\r\n",
			"HEAD / HTTP/1.1\r\nHost: a\r\nX-Forward: kept\r\n"},
		{"DELETE / HTTP/1.1\r\nProxy-Connection: x\r\nProxy-Authorization: x\r\nProxy-Authenticate: x\r\nHost: a\r\nEmpty:\r\n\r\n", "DELETE / HTTP/1.1\r\nHost: a\r\nEmpty: \r\n"},
	} {
		var r Request
		out, v := r.Parse([]byte(c.in), nil, &by)
		want := c.out + forwarded(string(r.Host))
		if v != Plain || string(out) != want {
			t.Errorf("%q: verdict %d, got\n%q, want\n%q", c.in, v, out, want)
		}
		for n := range strings.Index(c.in, "\r\n\r\n") + 4 {
			if _, v := r.Parse([]byte(c.in[:n]), nil, &by); v != Incomplete {
				t.Errorf("%q: verdict %d", c.in[:n], v)
			}
		}
	}
}

func TestOriginOfIPv6(t *testing.T) {
	by := NewOrigin(netip.MustParseAddr("2001:db8::1"))
	var r Request
	out, _ := r.Parse([]byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), nil, &by)
	for _, want := range []string{"\r\nX-Forwarded-For: 2001:db8::1\r\n", "\r\nForwarded: for=\"[2001:db8::1]\";host=\"a\";proto=http\r\n"} {
		if !bytes.Contains(out, []byte(want)) {
			t.Errorf("%q is not in %q", want, out)
		}
	}
}

// others are requests that are not for this package: those that it does not do, and
// those that are not valid.
var others = []string{
	"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.0\r\nHost: a\r\n\r\n", "GET / HTTP/2.0\r\nHost: a\r\n\r\n",
	"PRI * HTTP/2.0\r\n\r\n", "CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", "TRACE / HTTP/1.1\r\nHost: a\r\n\r\n",
	"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", "GET //a HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", "GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET /%4 HTTP/1.1\r\nHost: a\r\n\r\n", "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", "GET /?a#b HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nHost:\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\"b\r\n\r\n", "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
	"GET / HTTP/1.1\nHost: a\n\n", "GET / HTTP/1.1\r\nHost: a\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nA: b\n\nGET / HTTP/1.1\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\nA: b\rC: d\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nA: b\r\n folded\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nA: \x00\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nnocolon\r\n\r\n", "GET / HTTP/1.1\r\n Host: a\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n", "POST / HTTP/1.1\r\nHost: a\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999999999999999\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: x\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nConnection: close, x\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nTrailer: x\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nHTTP2-Settings: x\r\n\r\n",
	"\x16\x03\x01\x02\x00", "G\x00", "get / HTTP/1.1\r\nHost: a\r\n\r\n",
}

func TestOtherRequests(t *testing.T) {
	by := NewOrigin(client)
	for _, in := range others {
		var r Request
		if _, v := r.Parse([]byte(in), nil, &by); v != Other {
			t.Errorf("%q: verdict %d", in, v)
		}
	}
}

// hopByHop are the fields that no backend gets to see.
var hopByHop = []string{"Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Te", "Trailer", "Upgrade"}

// FuzzRequest compares with net/http: what is plain here is the same there, and what
// goes to the backend is what net/http would read as that request with the fields of
// this proxy.
func FuzzRequest(f *testing.F) {
	for _, s := range others {
		f.Add([]byte(s))
	}
	f.Add([]byte("POST /p?q HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nX: y\r\nx: z\r\nKeep-Alive: 1\r\nx_real_ip: 1\r\n\r\nabcGET / HTTP/1.1\r\n\r\n"))
	by := NewOrigin(client)
	f.Fuzz(func(t *testing.T, in []byte) {
		var r Request
		out, v := r.Parse(in, nil, &by)
		if v != Plain {
			return
		}
		rest := bytes.NewReader(in)
		buf := bufio.NewReaderSize(rest, 16)
		want, err := http.ReadRequest(buf)
		if err != nil {
			t.Fatalf("net/http: %v", err)
		}
		if head := len(in) - rest.Len() - buf.Buffered(); head != r.Head || want.ContentLength != r.Body || len(want.TransferEncoding) > 0 {
			t.Fatalf("the head has %d bytes and the body %d; net/http says %d, %d", r.Head, r.Body, head, want.ContentLength)
		}
		got, err := http.ReadRequest(bufio.NewReader(io.MultiReader(bytes.NewReader(out), strings.NewReader(strings.Repeat("b", int(min(r.Body, 100)))))))
		if err != nil {
			t.Fatalf("for the backend: %v: %q", err, out)
		}
		if got.Method != want.Method || got.RequestURI != want.RequestURI || got.Host != want.Host || got.ContentLength != want.ContentLength || got.Close {
			t.Fatalf("the backend gets %+v for %+v", got, want)
		}
		if uri := want.URL.RequestURI(); uri != got.RequestURI {
			t.Fatalf("the full path would ask for %q, this is %q", uri, got.RequestURI)
		}
		for name := range want.Header {
			if slices.Contains(hopByHop, name) || claimsOrigin([]byte(name)) {
				delete(want.Header, name)
			}
		}
		want.Header["X-Forwarded-Host"], want.Header["X-Forwarded-Proto"], want.Header["X-Forwarded-For"] = []string{want.Host}, []string{"http"}, []string{"192.0.2.7"}
		want.Header["Forwarded"] = []string{`for=192.0.2.7;host="` + want.Host + `";proto=http`}
		same(t, got.Header, want.Header)
	})
}

func same(t *testing.T, got, want http.Header) {
	t.Helper()
	for name := range want {
		if !slices.Equal(got[name], want[name]) {
			t.Fatalf("%s is %q, want %q", name, got[name], want[name])
		}
	}
	if len(got) != len(want) {
		t.Fatalf("fields are %q, want %q", got, want)
	}
}
