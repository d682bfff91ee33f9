package peer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/budgiehq/budgie/trust"
)

// The paths of version 1.
const (
	pathHello      = "/budgie/v1/"
	pathContainers = "/budgie/v1/containers"
	pathEvents     = "/budgie/v1/events"
	pathTraffic    = "/budgie/v1/traffic"
	pathOCI        = "/v2/"
)

// specPath is where the specification of a container is.
func specPath(id string) string { return pathContainers + "/" + id + "/spec" }

// serve answers a request.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	if !s.begin() {
		panic(http.ErrAbortHandler)
	}
	defer s.leave()
	if r.TLS == nil {
		panic(http.ErrAbortHandler) // a gate has no such connections
	}
	p, err := trust.PeerOf(*r.TLS)
	if err != nil {
		panic(http.ErrAbortHandler) // nor these
	}
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	if !s.requests.enter(p.Node) {
		h.Set("Retry-After", "1")
		fail(w, http.StatusTooManyRequests, codeTooMany, "this node serves as many requests as it takes; try again in a moment")
		return
	}
	defer s.requests.leave(p.Node)
	s.route(w, r)
}

// route finds out what is asked for. Paths are compared as they came, with their
// escapes: none that has a meaning needs one, so that a path with one has none.
func (s *Server) route(w http.ResponseWriter, r *http.Request) {
	path := r.URL.EscapedPath()
	switch {
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD")
		fail(w, http.StatusMethodNotAllowed, codeUnsupported, "peers can read here, and nothing else")
	case r.ContentLength != 0:
		fail(w, http.StatusRequestEntityTooLarge, codeUnsupported, "a request for something has no body")
	case len(path) > maxPath || len(r.URL.RawQuery) > maxQuery:
		fail(w, http.StatusNotFound, codeNameInvalid, errNoPath.Error())
	case path == pathOCI || path == strings.TrimSuffix(pathOCI, "/"):
		w.Header().Set("Docker-Distribution-API-Version", "registry/2.0")
		s.send(w, "application/json", []byte("{}"))
	case strings.HasPrefix(path, pathOCI):
		w.Header().Set("Docker-Distribution-API-Version", "registry/2.0")
		s.image(w, r, path)
	case path == pathHello:
		s.send(w, "application/json", []byte(`{"node":"`+s.flock.NodeID()+`"}`))
	case path == pathContainers:
		s.containers(w, r)
	case path == pathTraffic:
		s.traffic(w, r)
	case path == pathEvents && r.Method == http.MethodGet:
		s.events(w, r)
	default:
		id, ok := strings.CutPrefix(path, pathContainers+"/")
		id, spec := strings.CutSuffix(id, "/spec")
		if !ok || !spec || !isID(id) {
			fail(w, http.StatusNotFound, codeNameInvalid, errNoPath.Error())
			return
		}
		s.spec(w, r, id)
	}
}

// list returns what the node tells as JSON. One that breaks the rules is left
// out, rather than that nobody learns of the others.
func (s *Server) list(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, s.limits.answer)
	defer cancel()
	all, err := s.node.Containers(ctx)
	if err != nil {
		return nil, err
	}
	valid := make([]Container, 0, len(all))
	for _, c := range all {
		c.Node = s.flock.NodeID()
		if err := c.check(); err != nil {
			s.log.Warn("peers are not told of a container", "container", c.ID, "error", err)
			continue
		}
		valid = append(valid, c)
	}
	if len(valid) > mostContainers {
		return nil, errors.New("the node has more containers than peers take")
	}
	told := Told{Containers: valid}
	if h, ok := s.node.(Hoster); ok {
		told.Hosting = h.Hosting()
	}
	if err := told.Hosting.check(); err != nil {
		return nil, fmt.Errorf("hosting: %w", err)
	}
	return encodeList(told)
}

func (s *Server) containers(w http.ResponseWriter, r *http.Request) {
	data, err := s.list(r.Context())
	if err != nil {
		s.broken(w, r, err)
		return
	}
	s.send(w, "application/json", data)
}

func (s *Server) spec(w http.ResponseWriter, r *http.Request, id string) {
	ctx, cancel := context.WithTimeout(r.Context(), s.limits.answer)
	defer cancel()
	text, err := s.node.Spec(ctx, id)
	switch {
	case errors.Is(err, ErrNotFound):
		fail(w, http.StatusNotFound, codeNameInvalid, "this node has no such container")
	case err != nil:
		s.broken(w, r, err)
	case len(text) > maxSpec:
		s.broken(w, r, errors.New("the specification has more than "+strconv.Itoa(maxSpec)+" bytes"))
	default:
		s.send(w, "application/yaml", text)
	}
}

// events sends the containers at once and after every change, and a sign of
// life in between.
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	changes, err := s.node.Watch(r.Context())
	if err != nil {
		s.broken(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	var last []byte
	line := []byte("{}\n")
	for {
		if line != nil && s.push(w, line) != nil {
			return
		}
		line = nil
		select {
		case <-r.Context().Done():
			return
		case <-s.left:
			return
		case <-beat.C:
			line = []byte("{}\n")
		case _, ok := <-changes:
			if !ok {
				return
			}
			now, err := s.list(r.Context())
			if err != nil {
				if r.Context().Err() == nil {
					s.log.Warn("a peer that watches is sent away", "error", err)
				}
				return
			}
			if !bytes.Equal(now, last) {
				line, last = now, now
			}
		}
	}
}

// push sends a piece of an answer at once.
func (s *Server) push(w http.ResponseWriter, data []byte) error {
	rc := http.NewResponseController(w)
	if err := rc.SetWriteDeadline(time.Now().Add(s.limits.write)); err != nil {
		return err
	}
	if _, err := w.Write(data); err != nil {
		return err
	}
	return rc.Flush()
}

// send sends a whole answer.
func (s *Server) send(w http.ResponseWriter, contentType string, data []byte) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	if http.NewResponseController(w).SetWriteDeadline(time.Now().Add(s.limits.write)) == nil {
		_, _ = w.Write(data) // who asked has gone, or is cut off
	}
}

// broken says that the node could not answer. The reason stays here: it may
// name files.
func (s *Server) broken(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() == nil {
		s.log.Warn("a peer's request failed", "path", r.URL.Path, "error", err)
	}
	fail(w, http.StatusInternalServerError, codeUnsupported, "this node could not answer; its log says why")
}

// problem is an error in the form of the OCI distribution specification,
// section "Error codes".
type problem struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

type problems struct {
	Errors []problem `json:"errors"`
}

// fail sends an error.
func fail(w http.ResponseWriter, status int, code, message string) {
	data, err := json.Marshal(problems{[]problem{{code, plain(message, maxText)}}})
	if err != nil {
		data = []byte(`{"errors":[]}`) // strings always have a JSON form
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(data)))
	w.WriteHeader(status)
	_, _ = w.Write(data) // who asked has gone
}
