package peer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"time"
)

// Traffic is what came in at a node's published ports of one of its containers,
// wherever it was served. A request is a connection in mode tcp, and a session on UDP
// ports.
type Traffic struct {
	// ID is the container's id.
	ID string `json:"id"`
	// Requests, Failures and Shed count since the ports were opened. Failures got no
	// whole answer, or one of status 500 or above; clients that left do not count.
	// Shed are those of them that were turned away since the replicas had enough to
	// do.
	Requests uint64 `json:"requests"`
	Failures uint64 `json:"failures"`
	Shed     uint64 `json:"shed"`
	// Rate and FailureRate are per second, over the last 10 s.
	Rate        float64 `json:"rate"`
	FailureRate float64 `json:"failure_rate"`
	// P50 and P99 are percentiles over the last 10 s of the time until an answer
	// began; 0 where there was none.
	P50 time.Duration `json:"p50_ns"`
	P99 time.Duration `json:"p99_ns"`
	// Active is the number of requests under way, and Connections that of clients'
	// open connections.
	Active      int `json:"active"`
	Connections int `json:"connections"`
}

// TrafficTeller is a [Node] that tells of its traffic. Of a Node that is none it
// cannot be had.
type TrafficTeller interface {
	// Traffic returns what the node's own containers have, those with published
	// ports alone.
	Traffic(ctx context.Context) ([]Traffic, error)
}

// trafficList is the JSON of a node's traffic.
type trafficList struct {
	Traffic []Traffic `json:"traffic"`
}

// check says what is wrong, without repeating it.
func (t Traffic) check() error {
	switch {
	case !isID(t.ID):
		return errors.New("id: want 64 hexadecimal characters")
	case !isRate(t.Rate) || !isRate(t.FailureRate):
		return errors.New("rate: want a number from 0 on")
	case t.P50 < 0 || t.P99 < 0 || t.Active < 0 || t.Connections < 0:
		return errors.New("a number is negative")
	}
	return nil
}

// isRate reports whether something can happen so many times a second.
func isRate(r float64) bool { return r >= 0 && r < 1e12 && !math.IsNaN(r) }

// decodeTraffic reads what a node tells. Members that this version does not know are
// left aside.
func decodeTraffic(data []byte) ([]Traffic, error) {
	var l trafficList
	if err := json.Unmarshal(data, &l); err != nil {
		return nil, fmt.Errorf("%w: traffic: %w", ErrInvalid, err)
	}
	if len(l.Traffic) > mostContainers {
		return nil, fmt.Errorf("%w: traffic of %d containers, and no more than %d are taken", ErrInvalid, len(l.Traffic), mostContainers)
	}
	seen := make(map[string]bool, len(l.Traffic))
	for i, t := range l.Traffic {
		err := t.check()
		if err == nil && seen[t.ID] {
			err = errors.New("it is there twice")
		}
		if err != nil {
			return nil, fmt.Errorf("%w: traffic %d (%s): %w", ErrInvalid, i, plain(t.ID, 12), err)
		}
		seen[t.ID] = true
	}
	return l.Traffic, nil
}

// traffic answers a request for it.
func (s *Server) traffic(w http.ResponseWriter, r *http.Request) {
	teller, ok := s.node.(TrafficTeller)
	if !ok {
		fail(w, http.StatusNotFound, codeNameInvalid, "this node does not tell of its traffic")
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), s.limits.answer)
	defer cancel()
	all, err := teller.Traffic(ctx)
	l := trafficList{Traffic: make([]Traffic, 0, len(all))}
	for _, t := range all {
		if bad := t.check(); bad != nil {
			s.log.Warn("peers are not told of a container's traffic", "container", t.ID, "error", bad)
			continue
		}
		l.Traffic = append(l.Traffic, t)
	}
	var data []byte
	if err == nil {
		data, err = json.Marshal(l)
	}
	if err == nil && (len(data) > maxList || len(l.Traffic) > mostContainers) {
		err = errors.New("the node has more containers than peers take")
	}
	if err != nil {
		s.broken(w, r, err)
		return
	}
	s.send(w, "application/json", data)
}

// Traffic returns what comes in at the node's published ports. The error of a node
// that does not tell, as one of an older version, is ErrNotFound.
func (c *Client) Traffic(ctx context.Context) ([]Traffic, error) {
	data, _, err := c.fetch(ctx, path(pathTraffic), maxList)
	if err != nil {
		return nil, err
	}
	all, err := decodeTraffic(data)
	if err != nil {
		return nil, c.explain(ctx, err)
	}
	return all, nil
}
