package peer_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/budgiehq/budgie/peer"
	"github.com/budgiehq/budgie/peer/peertest"
	"github.com/budgiehq/budgie/runtime"
	"github.com/budgiehq/budgie/trust"
)

// hostile is a member of the flock that answers as it likes.
func hostile(t *testing.T, h http.HandlerFunc) (*peer.Client, *trust.Flock) {
	t.Helper()
	return hostileOn(t, listenAt(t, netip.MustParseAddrPort("127.0.0.1:0")), h)
}

func hostileOn(t *testing.T, ln net.Listener, h http.HandlerFunc, opts ...peer.ClientOption) (*peer.Client, *trust.Flock) {
	t.Helper()
	tok := trust.NewToken()
	f := member(t, tok)
	var h2 http.Protocols
	h2.SetHTTP2(true)
	mux := http.NewServeMux()
	mux.HandleFunc("/budgie/v1/{$}", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("{}")) })
	mux.HandleFunc("/", h)
	s := &http.Server{Handler: mux, Protocols: &h2}
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(f.Listener(ln, peer.ALPN)) }()
	t.Cleanup(func() { _ = s.Close(); <-done })
	return clientOf(t, member(t, tok), f.NodeID(), []netip.AddrPort{netip.MustParseAddrPort(ln.Addr().String())}, opts...), f
}

// flood writes without an end.
func flood(w http.ResponseWriter) {
	piece := bytes.Repeat([]byte(" "), 64<<10)
	for {
		if _, err := w.Write(piece); err != nil {
			return
		}
	}
}

// Whatever a member answers, its client ends with an error, soon, and without
// keeping more than the limits say.
func TestHostileAnswers(t *testing.T) {
	bomb := func() []byte {
		var b bytes.Buffer
		gz, _ := gzip.NewWriterLevel(&b, gzip.BestSpeed) // the level is a valid one
		for range 8 {
			_, _ = gz.Write(make([]byte, 1<<20)) // into memory
		}
		_ = gz.Close()
		return b.Bytes()
	}()
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		want   error
	}{
		"endless": {func(w http.ResponseWriter, _ *http.Request) { flood(w) }, peer.ErrInvalid},
		"a bomb": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write(bomb)
		}, peer.ErrInvalid},
		"a bomb as an error": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			w.WriteHeader(http.StatusNotFound)
			_, _ = w.Write(bomb)
		}, peer.ErrInvalid},
		"an endless error": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot); flood(w) }, peer.ErrRefused},
		"elsewhere": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://evil.example/", http.StatusFound)
		}, peer.ErrInvalid},
		"nothing":             {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }, peer.ErrInvalid},
		"garbage as an error": {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "\x1b[31m\x00", http.StatusNotFound) }, peer.ErrNotFound},
		"cut off": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`{"cont`))
			panic(http.ErrAbortHandler)
		}, nil},
		"shorter than it says": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "9")
			_, _ = w.Write([]byte(`{}`))
		}, nil},
		"a huge header": {func(w http.ResponseWriter, _ *http.Request) {
			for i := range 1000 {
				w.Header().Set(fmt.Sprintf("X-%d", i), strings.Repeat("x", 1000))
			}
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for ask, do := range endpoints {
				if ask == "connect" {
					continue // it is answered as it should be
				}
				client, _ := hostile(t, c.answer)
				at := time.Now()
				err := do(t, client)
				if err == nil || c.want != nil && !errors.Is(err, c.want) {
					t.Errorf("%s: %v", ask, err)
				}
				if took := time.Since(at); took > 20*time.Second {
					t.Errorf("%s: it took %s", ask, took)
				}
				if err != nil && strings.ContainsAny(err.Error(), "\x1b\x00") {
					t.Errorf("%s: control characters in %q", ask, err)
				}
			}
		})
	}
}

// Lists of containers that break the rules are refused as a whole, whether asked
// for or watched.
func TestHostileLists(t *testing.T) {
	list := []byte("{}")
	var node string
	client, f := hostile(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(append(list, '\n')) })
	node = f.NodeID()
	good := container(1)
	good.Node = node
	change := func(f func(*peer.Container)) []byte {
		c := good
		c.Endpoints = append(c.Endpoints[:0:0], c.Endpoints...)
		f(&c)
		data, err := json.Marshal(map[string]any{"containers": []peer.Container{c}})
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	list = change(func(*peer.Container) {})
	if got, err := client.Containers(soon(t)); err != nil || len(got) != 1 {
		t.Fatalf("a list that breaks no rule: %+v, %v", got, err)
	}
	list = append(bytes.TrimSuffix(list, []byte("}]}")), `,"of a later version":{"x":[1]}}],"more":1}`...)
	if got, err := client.Containers(soon(t)); err != nil || len(got) != 1 {
		t.Errorf("a list of a later version: %+v, %v", got, err)
	}
	twice, err := json.Marshal(map[string]any{"containers": []peer.Container{good, good}})
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string][]byte{
		"no JSON":             []byte("<html>"),
		"another kind":        []byte(`{"containers":{}}`),
		"twice":               twice,
		"another node's":      change(func(c *peer.Container) { c.Node = strings.Repeat("0", 64) }),
		"no node":             change(func(c *peer.Container) { c.Node = "" }),
		"short id":            change(func(c *peer.Container) { c.ID = c.ID[:12] }),
		"path as an id":       change(func(c *peer.Container) { c.ID = "../../etc/passwd" }),
		"service":             change(func(c *peer.Container) { c.ServiceID = strings.Repeat("A", 64) }),
		"name":                change(func(c *peer.Container) { c.Name = "../web" }),
		"name with a newline": change(func(c *peer.Container) { c.Name = "web\n" }),
		"long name":           change(func(c *peer.Container) { c.Name = strings.Repeat("a", 64) }),
		"state":               change(func(c *peer.Container) { c.State = "dancing" }),
		"health":              change(func(c *peer.Container) { c.Health = "fine" }),
		"image":               change(func(c *peer.Container) { c.Image = "Not/an image" }),
		"long image":          change(func(c *peer.Container) { c.Image = "a/" + strings.Repeat("b", 600) }),
		"digest":              change(func(c *peer.Container) { c.ImageDigest = "sha256:123" }),
		"runtime":             change(func(c *peer.Container) { c.Runtime = "a b" }),
		"port":                change(func(c *peer.Container) { c.Endpoints[0].Port = 65536 }),
		"negative port":       change(func(c *peer.Container) { c.Endpoints[0].ContainerPort = -1 }),
		"protocol":            change(func(c *peer.Container) { c.Endpoints[0].Protocol = "icmp" }),
		"host":                change(func(c *peer.Container) { c.Endpoints[0].Host = "evil.example" }),
		"many ports": change(func(c *peer.Container) {
			for range 300 {
				c.Endpoints = append(c.Endpoints, c.Endpoints[0])
			}
		}),
	} {
		list = bad
		if got, err := client.Containers(soon(t)); !errors.Is(err, peer.ErrInvalid) || got != nil {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		for got, err := range client.Watch(soon(t)) {
			if !errors.Is(err, peer.ErrInvalid) || got != nil {
				t.Errorf("%s, watched: %+v, %v", name, got, err)
			}
		}
	}
	list = []byte(`{}`)
	if _, err := client.Containers(soon(t)); !errors.Is(err, peer.ErrInvalid) {
		t.Errorf("no list: %v", err)
	}
}

// What is not the image that was asked for is not taken for it.
func TestHostileImages(t *testing.T) {
	manifest := []byte(`{"schemaVersion":2}`)
	header := http.Header{}
	status := http.StatusOK
	client, _ := hostile(t, func(w http.ResponseWriter, _ *http.Request) {
		for k, v := range header {
			w.Header()[k] = v
		}
		w.WriteHeader(status)
		_, _ = w.Write(manifest)
	})
	const mediaType = "application/vnd.oci.image.manifest.v1+json"
	header.Set("Content-Type", mediaType)
	if d, err := client.Image(soon(t), "web"); err != nil || d.Digest != peertest.Digest(manifest) || d.Size != int64(len(manifest)) {
		t.Fatalf("got %+v, %v", d, err)
	}
	if _, err := client.Image(soon(t), "web@"+peertest.Digest(nil)); !errors.Is(err, peer.ErrInvalid) {
		t.Errorf("another digest than asked for: %v", err)
	}
	header.Set("Docker-Content-Digest", peertest.Digest(nil))
	if _, err := client.Image(soon(t), "web"); !errors.Is(err, peer.ErrInvalid) {
		t.Errorf("another digest than it says: %v", err)
	}
	header = http.Header{"Content-Type": {"text/html; charset=utf-8"}}
	if _, err := client.Image(soon(t), "web"); !errors.Is(err, peer.ErrInvalid) {
		t.Errorf("a page: %v", err)
	}
	header = http.Header{"Content-Type": {mediaType}}
	manifest = make([]byte, peer.MaxManifest+1)
	if _, err := client.Image(soon(t), "web"); !errors.Is(err, peer.ErrInvalid) {
		t.Errorf("a large manifest: %v", err)
	}
	manifest = []byte("0123456789")
	d := runtime.Descriptor{Digest: peertest.Digest(manifest), Size: 10}
	if _, err := read(t, client.Blobs("web"), d, 4); !errors.Is(err, peer.ErrInvalid) {
		t.Errorf("the whole where a part was asked for: %v", err)
	}
	header.Set("Content-Range", "bytes 0-9/10")
	status = http.StatusPartialContent
	if _, err := read(t, client.Blobs("web"), d, 4); !errors.Is(err, peer.ErrInvalid) {
		t.Errorf("another part: %v", err)
	}
	manifest = manifest[4:]
	header.Set("Content-Range", "bytes 0-5/10")
	if _, err := read(t, client.Blobs("web"), d, 4); !errors.Is(err, peer.ErrInvalid) {
		t.Errorf("another part of the same size: %v", err)
	}
	header.Set("Content-Range", "bytes 4-9/10")
	if got, err := read(t, client.Blobs("web"), d, 4); err != nil || string(got) != "456789" {
		t.Errorf("the right part: %q, %v", got, err)
	}
	if _, err := read(t, client.Blobs("web"), d, 0); !errors.Is(err, peer.ErrInvalid) {
		t.Errorf("a part where the whole was asked for: %v", err)
	}
	status = http.StatusOK
	manifest = []byte("0123456789more")
	if _, err := read(t, client.Blobs("web"), d, 0); !errors.Is(err, peer.ErrInvalid) {
		t.Errorf("more than there is: %v", err)
	}
}
