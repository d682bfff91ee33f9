package balance_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/budgiehq/budgie/balance"
	"github.com/budgiehq/budgie/bunfile"
)

// twin returns another listener on the same socket, as another process would have it.
func twin(t *testing.T, ln net.Listener) net.Listener {
	t.Helper()
	f, err := ln.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	other, err := net.FileListener(f)
	if err != nil {
		t.Fatal(err)
	}
	return other
}

// A frontend that leaves its socket to another takes nothing from it any more, ends what
// it has, and lets the other one have who waits. One that is held takes nothing before it
// is let.
func TestLeave(t *testing.T) {
	for _, mode := range []bunfile.BalanceMode{bunfile.ModeHTTP, bunfile.ModeTCP} {
		t.Run(string(mode), func(t *testing.T) {
			inside, release := make(chan bool, 10), make(chan bool)
			backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/slow" {
					inside <- true
					<-release
				}
				io.WriteString(w, "ok")
			}))
			defer backend.Close()
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			hold := make(chan struct{})
			open := func(ln net.Listener, hold chan struct{}) balance.Frontend {
				f, err := balance.New().Listen(t.Context(), balance.Config{Name: "web", Listener: ln, Mode: mode, Hold: hold})
				if err != nil {
					t.Fatal(err)
				}
				f.Update([]balance.Backend{{ID: "a", Addr: backend.Listener.Addr().String()}})
				t.Cleanup(func() {
					ctx, cancel := context.WithCancel(context.Background())
					cancel()
					f.Shutdown(ctx)
				})
				return f
			}
			second := twin(t, ln)
			old, next := open(ln, nil), open(second, hold)
			url := "http://" + ln.Addr().String()
			slow := make(chan error, 1)
			go func() { slow <- fetchOnce(url + "/slow") }()
			<-inside

			old.(balance.Leaver).Leave()
			waiting := make(chan error, 1)
			go func() { waiting <- fetchOnce(url + "/slow") }()
			select {
			case <-inside:
				t.Fatal("somebody took what waited")
			case err := <-waiting:
				t.Fatalf("who waited was turned away: %v", err)
			case <-time.After(50 * time.Millisecond): // nothing tells that nothing happens
			}
			close(hold)
			<-inside
			close(release)
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			if err := old.Shutdown(ctx); err != nil {
				t.Errorf("the old one: %v", err)
			}
			for _, c := range []chan error{slow, waiting} {
				if err := <-c; err != nil {
					t.Error(err)
				}
			}
			if err := fetchOnce(url + "/"); err != nil {
				t.Error(err)
			}
			if err := next.Shutdown(ctx); err != nil {
				t.Errorf("the next one: %v", err)
			}
		})
	}
}

// One that was never let leaves what waits to the other.
func TestHeldIsGivenUp(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	f, err := balance.New().Listen(t.Context(), balance.Config{Name: "web", Listener: twin(t, ln), Mode: bunfile.ModeTCP, Hold: make(chan struct{})})
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := f.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if own, err := ln.Accept(); err != nil {
		t.Error(err)
	} else {
		own.Close()
	}
}

// Of two frontends of one UDP socket the one that leaves goes on answering its clients.
func TestLeaveUDP(t *testing.T) {
	backend, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer backend.Close()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	file, err := pc.(*net.UDPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	other, err := net.FilePacketConn(file)
	file.Close()
	if err != nil {
		t.Fatal(err)
	}
	hold := make(chan struct{})
	open := func(pc net.PacketConn, hold chan struct{}) balance.Frontend {
		f, err := balance.New().Listen(t.Context(), balance.Config{Name: "dns", PacketConn: pc, Mode: balance.ModeUDP, Hold: hold})
		if err != nil {
			t.Fatal(err)
		}
		f.Update([]balance.Backend{{ID: "a", Addr: backend.LocalAddr().String()}})
		t.Cleanup(func() {
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			f.Shutdown(ctx)
		})
		return f
	}
	old := open(pc, nil)
	open(other, hold)
	client, err := net.Dial("udp", pc.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	deadline := time.Now().Add(10 * time.Second)
	client.SetDeadline(deadline)
	backend.SetReadDeadline(deadline)
	buf := make([]byte, 100)
	receive := func(want string) net.Addr {
		t.Helper()
		n, from, err := backend.ReadFrom(buf)
		if err != nil || string(buf[:n]) != want {
			t.Fatalf("the backend got %q, %v; want %q", buf[:n], err, want)
		}
		return from
	}
	fmt.Fprint(client, "one")
	first := receive("one")
	old.(balance.Leaver).Leave()
	fmt.Fprint(client, "two")
	if _, err := backend.WriteTo([]byte("answer"), first); err != nil {
		t.Fatal(err)
	}
	if n, err := client.Read(buf); err != nil || string(buf[:n]) != "answer" {
		t.Errorf("got %q, %v", buf[:n], err)
	}
	close(hold)
	if from := receive("two"); from.String() == first.String() {
		t.Error("the one that left took another datagram")
	}
}

// fetchOnce requests a page on a new connection.
func fetchOnce(url string) error {
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	resp, err := c.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %s", resp.Status)
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}
