// Command testserver is the program that end-to-end tests run as a container.
// Its flags make it behave, or misbehave, as a test needs.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	lines := flag.Int("lines", 0, "print so many numbered lines first, every other one to stderr")
	exit := flag.Int("exit", -1, "exit with this status instead of serving")
	deaf := flag.Bool("deaf", false, "run without ever listening")
	stubborn := flag.Bool("stubborn", false, "ignore the stop signal")
	host := flag.String("host", "127.0.0.1", "listen on this address, at the port that PORT says")
	delay := flag.Duration("delay", 0, "begin to listen after so long")
	page := flag.String("page", "", "also answer with what is in this file")
	show := flag.String("print", "", "print this file instead of serving")
	ledger := flag.String("ledger", "", "write into this file who was asked to do what at /work, before that is answered")
	udp := flag.String("udp", "", "also answer datagrams, at the port that BUDGIE_PORT_N_UDP says for this N")
	where := flag.Bool("where", false, "answer datagrams with the machine's name in front, not the container's")
	h2c := flag.Bool("h2c", false, "speak HTTP/2 without TLS alone")
	flag.Parse()

	for n := range *lines {
		w := os.Stdout
		if n%2 == 1 {
			w = os.Stderr
		}
		fmt.Fprintln(w, "line", n+1)
	}
	if *show != "" {
		text, err := os.ReadFile(*show)
		fmt.Printf("%s\n", text)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if *exit >= 0 {
		fmt.Fprintln(os.Stderr, "giving up")
		os.Exit(*exit)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if *stubborn {
		ctx = context.Background()
	}
	if *deaf {
		fmt.Println("not listening")
		<-ctx.Done()
		return
	}
	<-time.After(*delay)
	if *udp != "" {
		go answer(net.JoinHostPort(*host, os.Getenv("BUDGIE_PORT_"+*udp+"_UDP")), *where)
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!*h2c)
	protocols.SetUnencryptedHTTP2(*h2c)
	serve(ctx, protocols, *host, *page, *ledger)
}

// answer sends datagrams back, with the container's name in front, or where it is, as
// long as the program runs.
func answer(addr string, where bool) {
	name, err := os.Getenv("BUDGIE_NAME"), error(nil)
	if where {
		name, err = os.Hostname()
	}
	var conn net.PacketConn
	if err == nil {
		conn, err = net.ListenPacket("udp", addr)
	}
	for buf := make([]byte, 1<<16); err == nil; {
		var n int
		var from net.Addr
		if n, from, err = conn.ReadFrom(buf); err == nil {
			_, err = conn.WriteTo(fmt.Appendf(nil, "%s %s", name, buf[:n]), from)
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// serve answers until ctx ends.
func serve(ctx context.Context, protocols *http.Protocols, host, page, ledger string) {
	ln, err := net.Listen("tcp", net.JoinHostPort(host, os.Getenv("PORT")))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Println(r.Method, r.URL.Path)
		fmt.Fprintf(w, "%s %s %d\n", os.Getenv("BUDGIE_NAME"), os.Getenv("GREETING"), os.Getpid())
		if page != "" {
			data, err := os.ReadFile(page)
			fmt.Fprintln(w, string(data), err)
		}
	})
	mux.HandleFunc("/header", func(w http.ResponseWriter, r *http.Request) { _ = r.Header.Write(w) })
	mux.HandleFunc("/work", func(w http.ResponseWriter, r *http.Request) { work(w, r, ledger) })
	fmt.Println("listening")
	server := &http.Server{Handler: mux, Protocols: protocols}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	_ = server.Serve(ln)
	fmt.Println("goodbye")
}

// work takes as long as it is told to and answers with the machine's name. What has
// an id is noted in the ledger first, in one piece, so that many may write to it.
func work(w http.ResponseWriter, r *http.Request, ledger string) {
	name, err := os.Hostname()
	if id := r.FormValue("id"); id != "" && err == nil {
		var file *os.File
		if file, err = os.OpenFile(ledger, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644); err == nil {
			_, err = file.WriteString(id + " " + name + "\n")
			err = errors.Join(err, file.Close())
		}
	}
	took, parseErr := time.ParseDuration(r.FormValue("took"))
	if err = errors.Join(err, parseErr); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	<-time.After(took)
	fmt.Fprint(w, name)
}
