package main

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// load is a way of asking a proxy.
type load struct {
	path        string // of what is asked for
	size        int    // bytes of each answer
	fresh       bool   // each request comes on a connection of its own
	connections int    // at a time
}

func (l load) String() string {
	kept := "kept alive"
	if l.fresh {
		kept = "new for each request"
	}
	return fmt.Sprintf("%d KiB, %d connections, %s", l.size>>10, l.connections, kept)
}

// allLoads are those of the report, in its order.
func allLoads() []load {
	var all []load
	for _, size := range []int{1 << 10, 100 << 10} {
		for _, fresh := range []bool{false, true} {
			for _, connections := range []int{64, 1000} {
				all = append(all, loadOf(size, fresh, connections))
			}
		}
	}
	return all
}

func loadOf(size int, fresh bool, connections int) load {
	return load{path: fmt.Sprintf("/%dk", size>>10), size: size, fresh: fresh, connections: connections}
}

// answers is what the generator saw.
type answers struct {
	requests    int64
	rate        float64 // requests per second
	median, p99 time.Duration
	// failed are answers with a status of 400 or above, and connections that
	// failed.
	failed int64
}

var (
	wrkRequests = regexp.MustCompile(`(?m)^\s*(\d+) requests in `)
	wrkRate     = regexp.MustCompile(`(?m)^Requests/sec:\s*([\d.]+)`)
	wrkQuantile = regexp.MustCompile(`(?m)^\s*(50|99)%\s+([\d.]+)(us|ms|s|m)\s*$`)
	wrkStatus   = regexp.MustCompile(`(?m)^\s*Non-2xx or 3xx responses: (\d+)`)
	wrkSockets  = regexp.MustCompile(`(?m)^\s*Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)`)
)

// parseWrk reads what wrk prints.
func parseWrk(text string) (answers, error) {
	var a answers
	requests, rate := wrkRequests.FindStringSubmatch(text), wrkRate.FindStringSubmatch(text)
	quantiles := wrkQuantile.FindAllStringSubmatch(text, -1)
	if requests == nil || rate == nil || len(quantiles) != 2 {
		return a, fmt.Errorf("wrk printed something else than is known: %q", text)
	}
	var errs [2]error
	a.requests, errs[0] = strconv.ParseInt(requests[1], 10, 64)
	a.rate, errs[1] = strconv.ParseFloat(rate[1], 64)
	for _, q := range quantiles {
		d, err := time.ParseDuration(q[2] + strings.Replace(q[3], "us", "µs", 1))
		if err != nil {
			return a, err
		}
		if q[1] == "50" {
			a.median = d
		} else {
			a.p99 = d
		}
	}
	for _, found := range [][]string{wrkStatus.FindStringSubmatch(text), wrkSockets.FindStringSubmatch(text)} {
		for _, count := range found[min(1, len(found)):] {
			n, err := strconv.ParseInt(count, 10, 64)
			if err != nil {
				return a, err
			}
			a.failed += n
		}
	}
	return a, errors.Join(errs[:]...)
}
