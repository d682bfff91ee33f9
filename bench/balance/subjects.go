//go:build linux

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// subject is a proxy.
type subject struct {
	name string
	// command returns what starts it on an address, in front of backends. What it
	// needs to write goes into dir.
	command func(dir, addr string, backends []string) (*exec.Cmd, error)
}

// subjects are what is measured, in the order of the report. What has no command is
// there already.
var subjects = []subject{
	{nameHAProxy, haproxy("http")},
	{nameNginx, nginx},
	{nameCaddy, caddy},
	{nameReverse, own(roleReverseProxy)},
	{nameBudgie, own(roleHTTP)},
	{nameHATCP, haproxy("tcp")},
	{nameBudgieTCP, own(roleTCP)},
	{nameBackends, nil},
}

// own starts this program in a role.
func own(role string) func(string, string, []string) (*exec.Cmd, error) {
	return func(_, addr string, backends []string) (*exec.Cmd, error) {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), roleVariable+"="+role, listenVariable+"="+addr, backendsVariable+"="+strings.Join(backends, ","))
		return cmd, nil
	}
}

// write writes a configuration into a file.
func write(dir, name, text string) (string, error) {
	file := filepath.Join(dir, name)
	return file, os.WriteFile(file, []byte(text), 0o644)
}

// haproxy is configured for as many threads as there are processors, which is its
// default, and to share connections to backends among clients, which is not, and
// is what makes it fast where clients' connections are short.
func haproxy(mode string) func(string, string, []string) (*exec.Cmd, error) {
	return func(dir, addr string, backends []string) (*exec.Cmd, error) {
		var b strings.Builder
		fmt.Fprintf(&b, "global\n\tmaxconn 8000\ndefaults\n\tmode %s\n\ttimeout connect 5s\n\ttimeout client 60s\n\ttimeout server 60s\n", mode)
		if mode == "http" {
			b.WriteString("\toption forwardfor\n\thttp-reuse always\n")
		}
		fmt.Fprintf(&b, "frontend f\n\tbind %s\n\tdefault_backend b\nbackend b\n\tbalance roundrobin\n", addr)
		for i, backend := range backends {
			fmt.Fprintf(&b, "\tserver s%d %s\n", i, backend)
		}
		file, err := write(dir, "haproxy.cfg", b.String())
		return exec.Command("haproxy", "-db", "-f", file), err
	}
}

// nginxHead is what all configurations of nginx have in common.
const nginxHead = `daemon off;
pid %[1]s/pid;
error_log %[1]s/error.log crit;
worker_processes auto;
worker_rlimit_nofile 16384;
events { worker_connections 8192; }
http {
	access_log off;
	keepalive_requests 1000000000;
	client_body_temp_path %[1]s/body;
	proxy_temp_path %[1]s/proxy;
	fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi;
	scgi_temp_path %[1]s/scgi;
	sendfile on;
	tcp_nodelay on;
`

func nginx(dir, addr string, backends []string) (*exec.Cmd, error) {
	var b strings.Builder
	fmt.Fprintf(&b, nginxHead, dir)
	b.WriteString("\tupstream b {\n\t\tkeepalive 1024;\n\t\tkeepalive_requests 1000000000;\n")
	for _, backend := range backends {
		fmt.Fprintf(&b, "\t\tserver %s;\n", backend)
	}
	fmt.Fprintf(&b, `	}
	server {
		listen %s backlog=4096;
		location / {
			proxy_pass http://b;
			proxy_http_version 1.1;
			proxy_set_header Connection "";
			proxy_set_header Host $http_host;
			proxy_set_header X-Forwarded-For $remote_addr;
		}
	}
}
`, addr)
	return nginxOf(dir, b.String())
}

func nginxOf(dir, text string) (*exec.Cmd, error) {
	file, err := write(dir, "nginx.conf", text)
	return exec.Command("nginx", "-p", dir, "-c", file, "-e", filepath.Join(dir, "error.log")), err
}

// web are the backends: one nginx that listens on several addresses, answers 1 KiB
// from memory and the rest from files.
func web(dir string, addrs []string, loads []load) (*exec.Cmd, error) {
	var b strings.Builder
	fmt.Fprintf(&b, nginxHead, dir)
	fmt.Fprintf(&b, "\tdefault_type text/plain;\n\topen_file_cache max=100;\n\tserver {\n\t\troot %s;\n", dir)
	for _, addr := range addrs {
		fmt.Fprintf(&b, "\t\tlisten %s backlog=4096;\n", addr)
	}
	for _, l := range loads {
		if _, err := write(dir, l.path, strings.Repeat("b", l.size)); err != nil {
			return nil, err
		}
	}
	fmt.Fprintf(&b, "\t\tlocation = /1k { return 200 %q; }\n\t}\n}\n", strings.Repeat("b", 1<<10))
	return nginxOf(dir, b.String())
}

func caddy(dir, addr string, backends []string) (*exec.Cmd, error) {
	_, port, _ := strings.Cut(addr, ":")
	file, err := write(dir, "Caddyfile", fmt.Sprintf(`{
	admin off
	auto_https off
	persist_config off
}
http://:%s {
	bind 127.0.0.1
	reverse_proxy %s {
		lb_policy round_robin
		transport http {
			keepalive_idle_conns_per_host 1024
			compression off
		}
	}
}
`, port, strings.Join(backends, " ")))
	cmd := exec.Command(caddyProgram, "run", "--config", file, "--adapter", "caddyfile")
	cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
	return cmd, err
}

// caddyProgram is what tools/setup-bench-balance.sh builds.
const caddyProgram = "bin/tools/caddy"
