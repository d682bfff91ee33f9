// Package balance spreads traffic over the replicas of a service: pools of
// backends, the algorithms that choose one, the HTTP, TCP and UDP proxies in
// front of them, and the checks that tell which of them serve.
//
// # Frontends
//
// [New] makes a [Proxy], whose Listen turns a listening socket into a
// [Frontend]. The set of backends is given, and replaced, by Update; those that
// stay, by ID and Addr, keep their counters, health and connections. Shutdown
// drains.
//
// # Algorithms
//
// Round-robin walks a ring: of any k·n picks in a row from n eligible backends
// each gets exactly k, however many goroutines pick. Least-connections takes a
// backend than which no other has fewer requests under way at that moment; ties
// go round. The choice and the counting are one step, so that a burst of
// requests cannot all see the same idle backend.
//
// Power of two draws two backends and takes the one where the expected wait is
// shorter: the moving average of the time to an answer times the requests under
// way. The average follows a peak at once, comes down within some ten seconds,
// and sinks while nothing is asked of a backend, so that one that was slow is
// tried again. Failures and answers of 500 and above double it, however quick
// they are, and a backend that lets requests wait does not seem faster for that.
// What counts is the time from the end of the request to the header of the
// response, in TCP mode that of connecting, in UDP mode that of the first answer.
//
// Weighted gives every backend its weight of as many picks as the weights add up
// to, exactly and spread out: it is never a whole pick ahead of its share.
//
// Consistent hashing gives what has the same key (the client's address, or a
// header or a cookie, see [Config].Hash) to the same backend, by the backends'
// IDs, so that every node decides alike. Who joins or leaves moves only the keys
// that it gets or had, about one of n. No backend gets more than 1.25 times the
// average of the requests under way, rounded up, or 16 if that is more; beyond
// that a key goes to its next backend, always the same. Clients choose headers and
// cookies, and by them their backend: the bound is what keeps them from
// flooding one.
//
// With [Config].SlowStart a backend that joins or comes back gets to its share
// gradually: with round-robin it lets turns pass, with weights its own grows, with
// least-connections its requests count as several at first, with power of two it
// yields to the other one at times, and of its keys under consistent hashing it has
// always the same ones, and more and more of them.
//
// Joining and leaving does not disturb the order of those that stay; a newcomer
// joins at the end of the ring and is not flooded to catch up.
//
// # HTTP mode
//
// Requests are forwarded with pooled connections, over HTTP/1.1, calls by gRPC
// over HTTP/2 (see below), unchanged but for the hop-by-hop fields (RFC 9110 section 7.6.1) and the forwarding fields:
// X-Forwarded-For, -Host and -Proto and Forwarded (RFC 7239) are set from what
// this proxy saw; what the client sent under these and similar names (every
// X-Forwarded-*, X-Real-Ip) is dropped, since anybody can write it. Where two
// frontends stand in a row the second therefore names the first as the client.
// Host and query reach the backend as the client sent them (a request of HTTP/1.0
// that names no host gets the address to which the client connected, RFC 9112
// section 3.3; one of HTTP/1.1 is answered with 400), bodies are neither
// compressed nor decompressed, and every write of a backend is flushed to the
// client at once, so that events and long polls arrive in time. A response may
// begin before its request has ended; a client's connection of HTTP/1.1 then ends
// with it.
// What http.Server lets through though its end is in doubt, a message of both a
// length and chunks above all, is refused with 400, and its connection ends (RFC
// 9112 section 6.1).
// Upgrades (WebSocket) pass and count as under way until they end, but for that to
// HTTP/2, which is ignored. CONNECT is refused with 501. The Max-Forwards of OPTIONS and
// TRACE is counted down, and where it is 0 the proxy answers itself.
//
// Clients may speak HTTP/2 without TLS (h2c) on the same port, with prior
// knowledge (RFC 9113 section 3.3). Each stream is a request like any other, to a
// backend of its own. What HTTP/1.1 could not say, such as a path with blanks, is
// answered with 400, or the stream is reset. With [Config].TLS clients negotiate
// HTTP/2 or HTTP/1.1.
//
// What is plain takes a shorter way (on Linux and macOS, with backends that are dialled
// by TCP, without TLS): a request over HTTP/1.1 that has come as a whole, with a
// body of known length if any, without upgrades, expectations and trailers, whose
// answer is as plain and begins within a second. Everything else, and every attempt
// that fails, goes on as described here, with the client's connection, which stays
// there. The two ways decide alike, and differ in form: the shorter one leaves as they
// are the case of names of fields, the reason phrase, an empty User-Agent, and a
// Content-Length of 0 of a GET or of a 304; of trailers in an answer it passes longer
// ones, and breaks off where their lines are folded or end without CR.
//
// # gRPC
//
// A request over HTTP/2 whose content type is application/grpc, with any encoding,
// goes to a backend over HTTP/2 without TLS, and so does every request but
// upgrades where [Config].Protocol is h2c. Streams of many clients share a few
// connections to a backend. Messages pass one by one, both ways at once; trailers,
// deadlines (grpc-timeout) and metadata pass unchanged, and when a client cancels
// the backend's stream is reset. A call may be silent for as long as its client
// likes, and wait for its answer for as long: its own deadline bounds it.
//
// What this proxy has to say is a status of gRPC in an answer of status 200, mostly
// UNAVAILABLE, with the Proxy-Status as below. A response that its backend breaks off
// ends with a status as well: UNAVAILABLE where the connection was lost, else what
// gRPC makes of the stream's error. Calls are no idempotent requests: one that may
// have been received is never made again, one that a backend says it has not
// processed (REFUSED_STREAM, GOAWAY; RFC 9113 section 8.7) is made elsewhere. A
// backend that has never answered over HTTP/2 is not taken out of rotation for
// that: it may be one of HTTP/1.1, asked by mistake.
//
// # What is sent again, and what is not
//
// A request that no backend has received, because dialling failed or not one
// byte of it went out, goes to the next backend, whatever its method. One that
// may have been received is sent again only if its method is idempotent (RFC
// 9110 section 9.2.2) and the connection ended before the first byte of a
// response; without a body, also where what came was no response: not HTTP, or
// broken off within its header. Either way the body must still be at hand: the first 64 KiB of one
// are kept until the response begins. Everything else, a POST above all, is
// sent at most once, also where it carries an Idempotency-Key. Every backend
// gets a request at most once (twice where a kept-alive connection turned out
// to be closed), and there is an upper bound on the attempts altogether.
//
// # Health
//
// A backend is trusted until something speaks against it. Active checks, if
// configured, probe it at once and then at the interval; Fall failures in a row
// take it out of rotation and Rise successes in a row bring it back. Traffic
// tells too: a failed dial, or three failed requests in a row, take it out for a
// second, twice as long each time until it has served one, up to 30 s. Rise
// successful probes in a row shorten that where they show what had failed: a
// probe that only connects does so after a failed dial, one that requests a path
// also after failed requests, but not a second time if requests fail again all
// the same. Where all are out, all are tried: checks never empty a pool.
//
// # Answers of the proxy itself
//
//   - 503 with Retry-After: no backend has received the request: there is none,
//     or none could be reached. Proxy-Status (RFC 9209) is
//     "budgie; error=destination_unavailable" or "…=connection_refused".
//   - 502: a backend may have received it, and gave no usable answer:
//     "budgie; error=connection_terminated", or "…=http_protocol_error" where
//     what it sent is not HTTP.
//   - 504: it received it and did not answer in time:
//     "budgie; error=http_response_timeout".
//   - 400 and 408: the request is not valid, or its body did not come; no
//     backend is blamed.
//
// Where the backend is a frontend of another Budgie proxy these fields tell
// what became of the request there: the first two mean that it was not
// delivered, and that it can go elsewhere; the others that it may have been. That
// is believed of the proxy at the other end of the connection alone, which says by
// the field Budgie-Hop that it is: a server in between may have passed the answer on.
// Where addresses are translated, or a Dial makes connections that are none of TCP's
// own, that cannot be seen, and the answer is one like others. In
// answers of other servers, entries named budgie are removed, so that such a
// field always comes from the proxy that the client talks to.
//
// # TCP mode
//
// Connections are dialled, to the next backend where one does not answer, and
// copied both ways, each direction with its own end of stream. A reset passes as
// a reset; where no backend is left the client gets one too.
//
// # Limits
//
// [Config].Limits bounds the connections of a frontend, 16384 by default, and of
// one client address, and the size of bodies, both unbounded by default. A
// connection too many is reset at once, with a warning; a body too large gets 413.
// A backend takes any number of requests unless BackendRequests bounds them; then
// those beyond wait in a queue of bounded length for a bounded time, and are
// shed after that: 503 with Retry-After and "budgie;
// error=connection_limit_reached", in ModeTCP a reset. An unhealthy backend
// is not asked because the healthy ones are full.
//
// Always: a header of a request or a response has at most 1 MiB, that of a request
// comes within 10 s; a kept-alive connection rests for 2 minutes at most; a body
// stands still for a minute at most, whether a client or a backend lets it.
//
// Over HTTP/2 the header of a request has at most 128 KiB (431), and a connection
// has at most Limits.Streams requests under way, 1000 by default, of which those
// count, too, that the client has reset and that have not ended yet. A client that
// opens and resets many more, or that asks for answers without reading them, loses
// its connection; one that takes nothing of a response for a minute loses its
// stream.
//
// # UDP mode
//
// The datagrams of one client, which is an address with a port, go to one
// backend for as long as the session lives: until neither side has sent
// anything for the idle timeout, a minute unless [WithUDPIdleTimeout] says
// otherwise. Each session has a socket of its own towards the backend, and what
// comes in there goes back to the client from the frontend's socket, from the
// address that the client wrote to where the system can do that. Datagrams of any
// size pass whole, empty ones too, and their number and order are not watched.
// Nothing is taken that comes from a backend's own address, which would go round and
// round.
// The algorithms choose the backend of a session; it counts as a request.
//
// A backend that cannot be reached (nobody listens at its port, or there is no
// way there) is out of rotation as after a failed dial, and the session moves to
// another one. The client's last datagram goes there too if nothing was
// received since and it has no more than 2 KiB; a backend that died just then may
// have had it, too. That a backend does not answer is no failure: not every protocol
// has answers. Active checks do not exist in this mode. A backend that leaves by
// Update keeps its sessions for a second longer where an answer is due, to pass
// that on; what their clients send goes to others at once. Datagrams that no
// backend takes are dropped, with a warning that counts them.
//
// A frontend has at most 4096 sessions ([WithUDPSessions]). To make room for
// another one it ends the longest silent among those that never got an answer,
// which are what a flood of made-up addresses consists of, else the longest
// silent of all, and counts that in [BackendStatus].Shed.
//
// Nothing tells that a client is done. Shutdown takes no newcomers from its
// beginning on, and goes on with a session until that was quiet for a quarter of a
// second, or a second where an answer is due.
//
// # Observation
//
// A [Config].Observer is told of every request, connection and session when it has
// ended, and of every change of a backend; it can ask for the state of a frontend
// at any time. Packages balanceprom and accesslog make metrics and log lines of
// that. What http.Server answers by itself, such as requests that are no HTTP, is
// not told. Without an observer nothing is collected.
//
// # Draining
//
// Shutdown first takes the connections that the kernel has accepted already,
// then closes the listener. On Linux the kernel begins no further ones meanwhile
// (on sockets without Multipath TCP, see net.ListenConfig.SetMultipathTCP): who
// connects in these few milliseconds hears nothing, tries again after a
// second, as TCP does, and is refused, or is served by who listens there by
// then. What remains is a microsecond before the closing; elsewhere it is some
// microseconds, and handshakes that are under way then; a connection accepted
// in that time is reset before anything of it was looked at. Of a listener that
// cannot be given deadlines, such as that of crypto/tls, nothing that waits is
// taken. Requests under way end, their answers carry
// Connection: close, and a kept-alive connection is closed only after it has
// been quiet for a moment, so that a request already on its way is served. An
// HTTP/2 connection is given notice (GOAWAY) that refuses nothing yet, and is
// closed when its streams have ended and it has been quiet; a second later further
// streams are refused.
package balance
