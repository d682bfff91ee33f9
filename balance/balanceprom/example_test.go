package balanceprom_test

import (
	"context"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/httptest"

	"github.com/budgiehq/budgie/balance"
	"github.com/budgiehq/budgie/balance/balanceprom"
	"github.com/budgiehq/budgie/bunfile"
	"github.com/prometheus/client_golang/prometheus"
)

// With the library, budgie.WithObserver(metrics) does what Config.Observer does
// here; promhttp.HandlerFor(registry, …) serves the metrics.
func Example() {
	registry, metrics := prometheus.NewRegistry(), balanceprom.New()
	registry.MustRegister(metrics)

	backend := httptest.NewServer(http.NotFoundHandler())
	defer backend.Close()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	f, err := balance.New().Listen(context.Background(), balance.Config{
		Name: "web", Mode: bunfile.ModeHTTP, Listener: ln, Observer: metrics,
	})
	if err != nil {
		log.Fatal(err)
	}
	defer f.Shutdown(context.Background())
	f.Update([]balance.Backend{{ID: "a", Addr: backend.Listener.Addr().String()}})

	families, err := registry.Gather()
	if err != nil {
		log.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == "budgie_backend_up" {
			fmt.Println("backends up:", family.GetMetric()[0].GetGauge().GetValue())
		}
	}
	// Output: backends up: 1
}
