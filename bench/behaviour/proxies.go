//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"

	"github.com/budgiehq/budgie/balance/behaviourtest"
	"github.com/budgiehq/budgie/internal/benchreport"
)

// The bounds that the programs get where a case wants some.
const impatience = 2 * time.Second

func programs(start func(context.Context, behaviourtest.Setup) (behaviourtest.Proxy, error)) behaviourtest.Subject {
	return behaviourtest.Subject{Start: start, Header: impatience, Stall: impatience, Response: impatience}
}

// bound is the bound of a setup, in seconds.
func bound(s behaviourtest.Setup) int {
	if s.Impatient {
		return int(impatience.Seconds())
	}
	return 60
}

// nginx does without buffers, which keep events and streams back, sets the
// forwarding fields as its manual says, and drops what clients write there.
func nginx(w *workshop) contender {
	version := func(ctx context.Context) string { return "nginx " + programVersion(ctx, "nginx", "-v") }
	return contender{"nginx", version, programs(func(ctx context.Context, s behaviourtest.Setup) (behaviourtest.Proxy, error) {
		p := &program{setup: s, config: nginxConfig, reload: reloadBy(syscall.SIGHUP), graceful: syscall.SIGQUIT}
		return p.start(ctx, w, "nginx", "-c", "CONFIG", "-e", "stderr", "-g", "daemon off;")
	})}
}

func nginxConfig(p *program) string {
	listen, tls := p.addr, ""
	if p.setup.Front.OverTLS() {
		listen += " ssl"
		tls = fmt.Sprintf("ssl_certificate %s; ssl_certificate_key %s;", p.file("cert.pem"), p.file("key.pem"))
	}
	if p.setup.Front.IsHTTP2() {
		listen += " http2"
	}
	upstream, location := "", "return 503;"
	if len(p.setup.Backends) > 0 {
		upstream = "upstream backends { server " + strings.Join(p.setup.Backends, "; server ") + "; keepalive 32; }"
		kind, scheme := "proxy", "http"
		if p.setup.H2CBackends {
			kind, scheme = "grpc", "grpc"
		}
		location = strings.NewReplacer("KIND", kind, "SCHEME", scheme, "BOUND", fmt.Sprint(bound(p.setup))).Replace(`
			KIND_pass SCHEME://backends;
			KIND_connect_timeout 2s; KIND_read_timeout BOUNDs; KIND_send_timeout BOUNDs;
			KIND_next_upstream error timeout invalid_header;
			KIND_set_header X-Forwarded-For $remote_addr; KIND_set_header X-Real-Ip $remote_addr;
			KIND_set_header X-Forwarded-Proto $scheme; KIND_set_header X-Forwarded-Host $http_host; KIND_set_header Forwarded "";`)
		if kind == "proxy" {
			location += `
			proxy_http_version 1.1; proxy_set_header Host $http_host;
			proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_upgrade;
			proxy_buffering off; proxy_request_buffering off; proxy_buffer_size 64k; proxy_buffers 8 64k;`
		}
	}
	return fmt.Sprintf(`worker_processes 2; pid %[1]s; user root;
events { worker_connections 2048; }
http {
	access_log off;
	client_body_temp_path %[2]s; proxy_temp_path %[2]s; fastcgi_temp_path %[2]s; uwsgi_temp_path %[2]s; scgi_temp_path %[2]s;
	map $http_upgrade $connection_upgrade { default upgrade; "" ""; }
	%[3]s
	large_client_header_buffers 8 64k; client_max_body_size 0;
	client_header_timeout %[4]ds; client_body_timeout %[4]ds; send_timeout %[4]ds;
	server { listen %[5]s; %[6]s location / { %[7]s } }
}
`, p.file("pid"), p.file("tmp"), upstream, bound(p.setup), listen, tls, location)
}

// haproxy makes the attempts that its manual recommends, and drops what clients
// write into the forwarding fields.
func haproxy(w *workshop) contender {
	version := func(ctx context.Context) string { return benchreport.FirstLine(ctx, "haproxy", "-v") }
	return contender{"HAProxy", version, programs(func(ctx context.Context, s behaviourtest.Setup) (behaviourtest.Proxy, error) {
		p := &program{setup: s, config: haproxyConfig, reload: reloadBy(syscall.SIGUSR2), graceful: syscall.SIGUSR1, settle: 300 * time.Millisecond}
		return p.start(ctx, w, "haproxy", "-W", "-db", "-f", "CONFIG")
	})}
}

func haproxyConfig(p *program) string {
	bind, scheme := p.addr, "http"
	if p.setup.Front.OverTLS() {
		bind += " ssl crt " + p.file("both.pem") + " alpn h2,http/1.1"
		scheme = "https"
	}
	var servers strings.Builder
	check, options := "", ""
	if c := p.setup.Check; c != nil {
		options = "option httpchk GET " + c.Path + "\n\ttimeout check " + millis(c.Timeout)
		check = fmt.Sprintf(" check inter %s fastinter %s fall %d rise 1", millis(c.Interval), millis(c.Interval/6), c.Fall)
	}
	if p.setup.H2CBackends {
		check += " proto h2"
	}
	for _, b := range p.setup.Backends {
		fmt.Fprintf(&servers, "\tserver %s %s%s\n", strings.ReplaceAll(b, ":", "_"), b, check)
	}
	return fmt.Sprintf(`global
	maxconn 4000
	tune.bufsize 131072
	stats socket %[1]s mode 600 level admin expose-fd listeners
defaults
	mode http
	timeout connect 2s
	timeout client %[2]ds
	timeout server %[2]ds
	timeout http-request %[2]ds
	timeout http-keep-alive 60s
	timeout tunnel 1h
	option redispatch 1
	option http-no-delay
	retries 3
	retry-on conn-failure empty-response junk-response
	option http-restrict-req-hdr-names delete
frontend front
	bind %[3]s
	http-request disable-l7-retry if !{ method GET HEAD OPTIONS PUT DELETE }
	http-request del-header forwarded
	http-request del-header x-real-ip
	http-request del-header x-forwarded -m beg
	http-request set-header X-Forwarded-Proto %[4]s
	http-request set-header X-Forwarded-Host %%[req.hdr(host)]
	option forwardfor
	default_backend back
backend back
	balance roundrobin
	%[5]s
%[6]s`, p.file("sock"), bound(p.setup), bind, scheme, options, servers.String())
}

func millis(d time.Duration) string { return fmt.Sprintf("%dms", d.Milliseconds()) }

const caddyProgram = "bin/tools/caddy"

// caddy passes on at once what comes, makes further attempts, and keeps
// connections that left HTTP when its configuration changes.
func caddy(w *workshop) contender {
	version := func(ctx context.Context) string { return "Caddy " + programVersion(ctx, caddyProgram, "version") }
	return contender{"Caddy", version, programs(func(ctx context.Context, s behaviourtest.Setup) (behaviourtest.Proxy, error) {
		name, err := absolute(caddyProgram)
		if err != nil {
			return nil, err
		}
		p := &program{setup: s, config: caddyConfig, reload: caddyReload, graceful: syscall.SIGTERM}
		return p.start(ctx, w, name, "run", "--config", "CONFIG", "--adapter", "caddyfile")
	})}
}

func caddyConfig(p *program) string {
	_, port, _ := net.SplitHostPort(p.addr) // it was one
	site, tls := "http://:"+port, ""
	if p.setup.Front.OverTLS() {
		site, tls = "https://:"+port, fmt.Sprintf("tls %s %s", p.file("cert.pem"), p.file("key.pem"))
	}
	check, versions, times := "", "", ""
	if c := p.setup.Check; c != nil {
		check = fmt.Sprintf("health_uri %s\n\t\thealth_interval %s\n\t\thealth_timeout %s\n\t\thealth_fails %d\n\t\thealth_passes 1",
			c.Path, millis(c.Interval), millis(c.Timeout), c.Fall)
	}
	if p.setup.H2CBackends {
		versions = "versions h2c 2"
	}
	if p.setup.Impatient {
		times = fmt.Sprintf("timeouts {\n\t\t\tread_header %ds\n\t\t\tread_body %ds\n\t\t\twrite %ds\n\t\t}",
			bound(p.setup), 2*bound(p.setup), 3*bound(p.setup)) // bodies are bounded as a whole
	}
	handler := "respond 503"
	if len(p.setup.Backends) > 0 {
		handler = fmt.Sprintf(`reverse_proxy %s {
		lb_policy round_robin
		lb_retries 3
		fail_duration 10s
		%s
		flush_interval -1
		stream_close_delay 1h
		header_up -Forwarded
		header_up -X-Real-Ip
		transport http {
			dial_timeout 2s
			response_header_timeout %ds
			compression off
			%s
		}
	}`, strings.Join(p.setup.Backends, " "), check, bound(p.setup), versions)
	}
	return fmt.Sprintf(`{
	admin unix/%s
	auto_https off
	persist_config off
	servers {
		protocols h1 h2 h2c
		max_header_size 1MB
		enable_full_duplex
		%s
	}
}
%s {
	bind 127.0.0.1
	%s
	%s
}
`, p.file("admin"), times, site, tls, handler)
}

func caddyReload(p *program) error {
	tr := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", p.file("admin"))
	}}
	resp, err := (&http.Client{Transport: tr, Timeout: 20 * time.Second}).Post("http://localhost/load", "text/caddyfile", strings.NewReader(caddyConfig(p)))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, err := io.ReadAll(resp.Body)
		return fmt.Errorf("reload: %d, %s, %v", resp.StatusCode, text, err)
	}
	return nil
}
