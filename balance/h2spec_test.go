package balance_test

import (
	"context"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/budgiehq/budgie/balance"
	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/internal/testenv"
)

// h2spec builds the conformance suite that tools/h2spec pins.
func h2spec(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "h2spec")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "build", "-o", program, "github.com/summerwind/h2spec/cmd/h2spec")
	cmd.Dir = filepath.Join("..", "tools", "h2spec")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		testenv.Skip(t, fmt.Sprintf("the conformance suite of HTTP/2 cannot be built, which needs the network once: %v\n%s", err, out))
	}
	return program
}

// The conformance suite of HTTP/2, in clear and over TLS. What it does not like is
// allowed, each for its reason.
func TestH2Spec(t *testing.T) {
	program := h2spec(t)
	server, _ := certified(t)
	allowed := map[string]string{
		"Sends multiple values of SETTINGS_INITIAL_WINDOW_SIZE":                                          "http.Server takes a setting that is there twice for an attack",
		"Sends a HEADERS frame that contains the connection-specific header field":                       "answered with 400, RFC 9113 section 8.1.1",
		"Sends a HEADERS frame that contains the TE header field with any value other than \"trailers\"": "answered with 400, RFC 9113 section 8.1.1",
	}
	for name, cfg := range map[string]balance.Config{
		"in clear": {Mode: bunfile.ModeHTTP},
		"over TLS": {Mode: bunfile.ModeHTTP, TLS: server},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := open(t, cfg)
			f.set(httpBackend(t, func(w http.ResponseWriter, r *http.Request) {
				io.Copy(io.Discard, r.Body)
				io.WriteString(w, "a body that is long enough to be cut into frames")
			}))
			allowed := maps.Clone(allowed)
			_, port, _ := net.SplitHostPort(f.Addr().String()) // it is one
			report := filepath.Join(t.TempDir(), "report.xml")
			args := []string{"-h", "127.0.0.1", "-p", port, "-o", "3", "-j", report}
			if cfg.TLS != nil {
				args = append(args, "-t", "-k")
			} else {
				allowed["Sends invalid connection preface"] = "it is a request of HTTP/1.1 then, and answered as such"
			}
			out, _ := exec.CommandContext(t.Context(), program, args...).CombinedOutput() // it fails where a test does
			failed, total := failuresIn(t, report)
			if total < 140 {
				t.Fatalf("only %d tests ran:\n%s", total, out)
			}
			for _, test := range failed {
				if allowed[test] == "" {
					t.Errorf("%s", test)
				}
			}
			for test := range allowed {
				if !slices.Contains(failed, test) {
					t.Errorf("%q does not fail: take it off the list", test)
				}
			}
			if t.Failed() {
				_, what, _ := strings.Cut(string(out), "Failures:")
				t.Log(what)
			}
		})
	}
}

// failuresIn reads a report, which is in JUnit's format.
func failuresIn(t *testing.T, file string) (failed []string, total int) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var report struct {
		Suites []struct {
			Cases []struct {
				Name    string    `xml:"classname,attr"`
				Failure *struct{} `xml:"failure"`
				Error   *struct{} `xml:"error"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal(text, &report); err != nil {
		t.Fatal(err)
	}
	for _, s := range report.Suites {
		for _, c := range s.Cases {
			if total++; c.Failure != nil || c.Error != nil {
				failed = append(failed, c.Name)
			}
		}
	}
	return failed, total
}
