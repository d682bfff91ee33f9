package balance_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/budgiehq/budgie/balance"
	"github.com/budgiehq/budgie/bunfile"
)

func onlyH2C() *http.Protocols {
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	return p
}

// conversations is a server that speaks HTTP/2 without TLS and does what gRPC
// does: it answers each line while more come, and ends with trailers.
func conversations(t *testing.T) string {
	ln := listen(t)
	s := &http.Server{Protocols: onlyH2C(), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Trailer", "Grpc-Status")
		w.WriteHeader(http.StatusOK)
		lines := bufio.NewScanner(r.Body)
		http.NewResponseController(w).Flush()
		for lines.Scan() {
			fmt.Fprintf(w, "you said %s\n", lines.Text())
			http.NewResponseController(w).Flush()
		}
		w.Header().Set("Grpc-Status", "0")
		w.Header().Set(http.TrailerPrefix+"Grpc-Message", r.Trailer.Get("Client-Said"))
	})}
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln) }()
	t.Cleanup(func() { s.Close(); receive(t, served) })
	return ln.Addr().String()
}

// HTTP/2 without TLS, streams both ways at once, trailers both ways: several
// streams on one connection, through a dead backend to a living one.
func TestCaseB8ConversationsInModeTCP(t *testing.T) {
	f := open(t, balance.Config{Mode: bunfile.ModeTCP})
	f.set(deadAddr(t), conversations(t))
	tr := &http.Transport{Protocols: onlyH2C()}
	t.Cleanup(tr.CloseIdleConnections)
	client := &http.Client{Transport: tr, Timeout: patience}
	for stream := range 3 {
		body, say := io.Pipe()
		req := request(t, http.MethodPost, f.url("/talk"), body)
		req.Trailer = http.Header{"Client-Said": nil}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		answers := bufio.NewReader(resp.Body)
		for i := range 5 {
			// Each answer comes before the next line is said.
			fmt.Fprintf(say, "%d.%d\n", stream, i)
			if got, err := answers.ReadString('\n'); err != nil || got != fmt.Sprintf("you said %d.%d\n", stream, i) {
				t.Fatalf("got %q, %v", got, err)
			}
		}
		req.Trailer.Set("Client-Said", "bye")
		say.Close()
		if rest, err := io.ReadAll(answers); err != nil || len(rest) > 0 {
			t.Errorf("at the end: %q, %v", rest, err)
		}
		resp.Body.Close()
		if resp.ProtoMajor != 2 || resp.Trailer.Get("Grpc-Status") != "0" || resp.Trailer.Get("Grpc-Message") != "bye" {
			t.Errorf("%s with trailers %v; want HTTP/2, 0 and bye", resp.Proto, resp.Trailer)
		}
	}
	if s := f.Status()[1]; s.Requests != 1 {
		t.Errorf("status = %+v; want three streams on one connection", s)
	}
}
