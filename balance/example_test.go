package balance_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/budgiehq/budgie/balance"
	"github.com/budgiehq/budgie/bunfile"
)

// Two servers behind one address, each of which gets every second request.
func Example() {
	one, two := httptest.NewServer(says("one")), httptest.NewServer(says("two"))
	defer one.Close()
	defer two.Close()

	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	front, err := balance.New().Listen(context.Background(), balance.Config{
		Name:      "web",
		Listener:  ln,
		Mode:      bunfile.ModeHTTP,
		Algorithm: bunfile.RoundRobin,
		Check:     &balance.Check{Path: "/", Interval: time.Minute},
	})
	if err != nil {
		log.Fatal(err)
	}
	front.Update([]balance.Backend{
		{ID: "replica-1", Addr: one.Listener.Addr().String()},
		{ID: "replica-2", Addr: two.Listener.Addr().String()},
	})

	for range 4 {
		resp, err := http.Get("http://" + front.Addr().String())
		if err != nil {
			log.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		fmt.Println(string(body))
	}

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := front.Shutdown(ctx); err != nil {
		log.Fatal(err)
	}
	for _, b := range front.Status() {
		fmt.Println(b.ID, b.Requests)
	}
	http.DefaultClient.CloseIdleConnections()
	// Output:
	// one
	// two
	// one
	// two
	// replica-1 2
	// replica-2 2
}
