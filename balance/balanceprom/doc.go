// Package balanceprom makes metrics for Prometheus of what frontends of package
// balance do.
//
// [New] returns a [Metrics], which is both an observer of frontends and a collector:
//
//	m := balanceprom.New()
//	registry.MustRegister(m)
//	client, err := budgie.New(budgie.WithObserver(m))
//
// Nothing is registered by itself, and nothing global is used. The package brings
// github.com/prometheus/client_golang, which nobody gets who does not import it.
//
// # Metrics
//
// All have the labels service, mode (http, tcp or udp) and addr, where the frontend
// listens. A request is a connection in mode tcp and a session in mode udp.
//
//   - budgie_requests_total, by backend and code: 1xx to 5xx, "none" where the client
//     got no status, in modes tcp and udp "ok" and "failed". The backend is empty
//     where none was tried, and "left" where it has left meanwhile.
//   - budgie_failures_total, by cause: the words of [balance.Cause].
//   - budgie_retries_total, budgie_shed_total: attempts after the first, and what was
//     turned away because the backends had enough to do.
//   - budgie_request_duration_seconds: from the request to the end of its response.
//   - budgie_first_byte_seconds, by backend: from the request to the header of its
//     response, in mode tcp until the connection to the backend was made. Queueing
//     and retries are in it.
//   - budgie_received_bytes_total, budgie_sent_bytes_total: of bodies, from and to
//     clients.
//   - budgie_grpc_calls_total, by grpc_code: the number of the status, "none" where
//     the client got none.
//   - budgie_connections, budgie_connections_accepted_total,
//     budgie_connections_refused_total: of clients.
//   - budgie_queue_length: requests that wait for a backend with room.
//   - budgie_backend_up, budgie_backend_weight, budgie_backend_in_flight,
//     budgie_backend_failures_total, budgie_backend_shed_total: by backend, as
//     [balance.Frontend].Status has them.
//
// The histograms are native ones (at most 160 buckets, each 10 % wider than the one
// before) and classic ones at the same time; servers take what they know.
//
// What clients send, such as paths and methods, makes no series. Those of a backend
// are removed when it leaves, those of a frontend when it ends, so that their number
// is bounded by what is there.
package balanceprom
