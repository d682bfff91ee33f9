package behaviourtest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

// message frames one of gRPC, without compression.
func message(text string) []byte {
	b := make([]byte, 5, 5+len(text))
	binary.BigEndian.PutUint32(b[1:], uint32(len(text)))
	return append(b, text...)
}

// readMessage takes one off a stream.
func readMessage(r io.Reader) (string, error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return "", err
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n > 1<<20 {
		return "", fmt.Errorf("a message of %d bytes", n)
	}
	text := make([]byte, n)
	_, err := io.ReadFull(r, text)
	return string(text), err
}

// grpcBackend answers every message of a call; what is said ends with its
// trailers.
func grpcBackend(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/grpc")
	w.Header().Set("Trailer", "Grpc-Status, Grpc-Message")
	if r.ProtoMajor != 2 || r.Header.Get("Te") != "trailers" || r.Header.Get("Grpc-Timeout") != "10S" {
		w.Header().Set("Grpc-Status", "13")
		w.Header().Set("Grpc-Message", fmt.Sprintf("%s, TE %q, timeout %q", r.Proto, r.Header.Get("Te"), r.Header.Get("Grpc-Timeout")))
		return
	}
	rc := http.NewResponseController(w)
	rc.Flush()
	for {
		text, err := readMessage(r.Body)
		if err != nil {
			break
		}
		w.Write(message("you said " + text))
		rc.Flush()
	}
	w.Header().Set("Grpc-Status", "5")
	w.Header().Set("Grpc-Message", "not found")
}

func (t *T) grpcProxy(h http.HandlerFunc) Proxy {
	return t.start(Setup{Backends: []string{t.backend("a", h).addr}, H2CBackends: true})
}

func (t *T) newCall(p Proxy, body io.Reader) *http.Request {
	req := t.newRequest(p, "POST", "/test.Service/Call", body)
	req.Header.Set("Content-Type", "application/grpc")
	req.Header.Set("Te", "trailers")
	req.Header.Set("Grpc-Timeout", "10S")
	return req
}

func grpcUnary(t *T) {
	p := t.grpcProxy(grpcBackend)
	got := t.do(t.newCall(p, bytes.NewReader(message("hello"))))
	text, err := readMessage(bytes.NewReader([]byte(got.body)))
	if err != nil || text != "you said hello" || got.Trailer.Get("Grpc-Status") != "5" || got.Trailer.Get("Grpc-Message") != "not found" {
		t.errorf("got %d, %q, %v, header %v, trailers %v", got.StatusCode, text, err, got.Header, got.Trailer)
	}
}

func grpcBoth(t *T) {
	p := t.grpcProxy(grpcBackend)
	pr, pw := io.Pipe()
	t.cleanup(func() { pw.Close() })
	resp, cancel := t.open(t.newCall(p, pr)) // the answer begins before the first message
	defer time.AfterFunc(patience, cancel).Stop()
	for i := range 5 {
		go pw.Write(message(fmt.Sprint(i)))
		if text, err := readMessage(resp.Body); err != nil || text != fmt.Sprint("you said ", i) {
			t.fatalf("answer %d is %q, %v (header %v)", i, text, err, resp.Header)
		}
	}
	pw.Close()
	if rest, err := io.ReadAll(resp.Body); err != nil || len(rest) > 0 || resp.Trailer.Get("Grpc-Status") != "5" {
		t.errorf("the end is %q, %v, trailers %v", rest, err, resp.Trailer)
	}
}

func grpcTrailersOnly(t *T) {
	p := t.grpcProxy(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Grpc-Status", "12")
	})
	got := t.do(t.newCall(p, bytes.NewReader(message("hello"))))
	if got.StatusCode != 200 || got.Header.Get("Grpc-Status")+got.Trailer.Get("Grpc-Status") != "12" || got.body != "" {
		t.errorf("got %d, header %v, trailers %v", got.StatusCode, got.Header, got.Trailer)
	}
}

func grpcCancelled(t *T) {
	arrived, ended := make(chan struct{}, 1), make(chan struct{}, 1)
	p := t.grpcProxy(func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).Flush()
		arrived <- struct{}{}
		select {
		case <-r.Context().Done():
			ended <- struct{}{}
		case <-time.After(patience):
		}
	})
	pr, pw := io.Pipe()
	t.cleanup(func() { pw.Close() })
	_, cancel := t.open(t.newCall(p, pr))
	wait(t, "the call at the backend", arrived)
	cancel()
	wait(t, "its end at the backend", ended)
}

// manyStreams holds requests until all are there.
func manyStreams(t *T) {
	const n = 100
	var mu sync.Mutex
	arrived, all := 0, make(chan struct{})
	p := t.proxy(t.backend("a", func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		if arrived++; arrived == n {
			close(all)
		}
		mu.Unlock()
		select {
		case <-all:
		case <-r.Context().Done():
		}
	}).addr)
	client := t.client()
	tr := client.Transport.(*http.Transport)
	tr.HTTP2 = &http.HTTP2Config{StrictMaxConcurrentRequests: true}
	results := make(chan error, n)
	for range n {
		req := t.newRequest(p, "GET", "/", nil)
		go func() {
			got, err := tryOn(client, req)
			if err == nil && got.StatusCode != 200 {
				err = fmt.Errorf("status %d", got.StatusCode)
			}
			results <- err
		}()
	}
	for range n {
		if err := wait(t, "all the answers", results); err != nil {
			t.fatalf("%v", err)
		}
	}
}

// unreadStream asks for more than any window, and reads nothing of it.
func unreadStream(t *T) {
	p := t.proxy(t.backend("a", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/small" {
			io.WriteString(w, "small")
			return
		}
		for part := make([]byte, 64<<10); ; {
			if _, err := w.Write(part); err != nil {
				return
			}
		}
	}).addr)
	h := t.dialH2(p)
	h.ask(1, true, ":path", "/large")
	if got := h.status(1); got != "200" {
		t.fatalf("the large one is answered with %s", got)
	}
	h.growWindow(0, 1<<30) // of the connection, not of the stream
	h.ask(3, true, ":path", "/small")
	if got := h.status(3); got != "200" {
		t.errorf("the other one is answered with %s", got)
	}
}
