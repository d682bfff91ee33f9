package budgie

import (
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/runtime"
)

// A server that speaks HTTP/2 without TLS alone, as its file says, is asked so.
func TestProbeSpeaksAsTheProxyDoes(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Protocols: new(http.Protocols), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/sick" {
			w.WriteHeader(http.StatusInternalServerError)
		}
	})}
	server.Protocols.SetUnencryptedHTTP2(true)
	go func() { _ = server.Serve(ln) }()
	defer server.Close()
	st := runtime.Status{Addresses: []runtime.Address{{ContainerPort: 80, Protocol: bunfile.TCP, HostPort: ln.Addr().String()}}}
	for _, c := range []struct {
		path     string
		protocol bunfile.BackendProtocol
		well     bool
	}{{"/", bunfile.ProtocolH2C, true}, {"/sick", bunfile.ProtocolH2C, false}, {"/", bunfile.ProtocolAuto, false}} {
		spec := bunfile.Spec{Healthcheck: &bunfile.Healthcheck{Path: c.path}, Balance: bunfile.Balance{Protocol: c.protocol}}
		err := newProber(nil, lifecycle.Container{Spec: spec}, st, nil).probe(t.Context())
		if (err == nil) != c.well {
			t.Errorf("%s over %s: %v", c.path, c.protocol, err)
		}
	}
}

// A container that has no address is not said to lack the port.
func TestProbeWithoutAddress(t *testing.T) {
	spec := bunfile.Spec{Network: bunfile.NetworkNone, Healthcheck: &bunfile.Healthcheck{TCP: 80}}
	err := newProber(nil, lifecycle.Container{Spec: spec}, runtime.Status{}, nil).probe(t.Context())
	if err == nil || !strings.Contains(err.Error(), "network: none") {
		t.Errorf("got %v", err)
	}
}
