package main

import (
	"testing"
	"time"
)

const wrkText = `Running 2s test @ http://127.0.0.1:8080/1k
  2 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.62ms    1.21ms  41.27ms   91.07%
    Req/Sec    20.25k     2.01k   24.54k    70.00%
  Latency Distribution
     50%  850.00us
     75%    1.87ms
     90%    2.50ms
     99%    1.10s 
  80710 requests in 2.00s, 96.37MB read
`

func TestParseWrk(t *testing.T) {
	got, err := parseWrk(wrkText + "Requests/sec:  40321.37\nTransfer/sec:     48.14MB\n")
	if want := (answers{requests: 80710, rate: 40321.37, median: 850 * time.Microsecond, p99: 1100 * time.Millisecond}); err != nil || got != want {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	got, err = parseWrk(wrkText + "  Socket errors: connect 1, read 20, write 300, timeout 4000\n  Non-2xx or 3xx responses: 50000\nRequests/sec:  40321.37\n")
	if err != nil || got.failed != 54321 {
		t.Errorf("failures: got %d, %v", got.failed, err)
	}
	for _, text := range []string{"", wrkText, "Requests/sec:  40321.37\n"} {
		if _, err := parseWrk(text); err == nil {
			t.Errorf("%q is accepted", text)
		}
	}
}
