package balance_test

import (
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/budgiehq/budgie/balance"
	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/internal/testenv"
)

// curl, which shares no code with Go's clients, gets its answers over every front.
func TestCurl(t *testing.T) {
	curl, err := exec.LookPath("curl")
	if err != nil {
		testenv.Skip(t, "curl is not installed")
	}
	server, _ := certified(t)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificates[0].Certificate[0]})
	if err := os.WriteFile(ca, text, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name  string
		tls   bool
		args  []string
		twice string // what comes of two requests, each with the version and how many connections that took
	}{
		{"h1", false, []string{"--http1.1"}, "POST one;1.1 1|POST one;1.1 0|"},
		{"HTTP 1.0", false, []string{"--http1.0"}, "POST one;1 1|POST one;1 1|"},
		// curl 7.88 begins anew on a connection that it has, with any server.
		{"h2c with prior knowledge", false, []string{"--http2-prior-knowledge"}, "POST one;2 1|"},
		{"h2c by upgrade, which is ignored", false, []string{"--http2"}, "POST one;1.1 1|POST one;1.1 0|"},
		{"h1 over TLS", true, []string{"--http1.1"}, "POST one;1.1 1|POST one;1.1 0|"},
		{"h2 over TLS", true, []string{"--http2"}, "POST one;2 1|POST one;2 0|"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg := balance.Config{Mode: bunfile.ModeHTTP}
			scheme := "http"
			if tc.tls {
				cfg.TLS, scheme = server, "https"
			}
			f := open(t, cfg)
			f.set(httpBackend(t, func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				fmt.Fprintf(w, "%s %s;", r.Method, body)
			}))
			url := scheme + "://" + f.Addr().String() + "/"
			if tc.tls {
				port := f.Addr().String()[len("127.0.0.1:"):]
				url = "https://example.com:" + port + "/"
				tc.args = append(tc.args, "--cacert", ca, "--resolve", "example.com:"+port+":127.0.0.1")
			}
			args := append([]string{"--silent", "--show-error", "--noproxy", "*", "--max-time", "10", "--write-out", "%{http_version} %{num_connects}|"}, tc.args...)
			args = append(args, "--data", "one", url)
			if strings.Count(tc.twice, "|") == 2 {
				args = append(args, url)
			}
			out, err := exec.CommandContext(t.Context(), curl, args...).CombinedOutput()
			if err != nil || string(out) != tc.twice {
				t.Errorf("got %q, %v; want %q", out, err, tc.twice)
			}
		})
	}
}
