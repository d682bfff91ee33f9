package balancetest_test

import (
	"net"
	"testing"

	"github.com/budgiehq/budgie/balance"
	"github.com/budgiehq/budgie/balance/balancetest"
	"github.com/budgiehq/budgie/bunfile"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestFake(t *testing.T) {
	balancetest.Run(t, func(*testing.T) balancetest.Balancer { return balancetest.NewFake() })
}

func TestFakeRecords(t *testing.T) {
	fake := balancetest.NewFake()
	ln := listen(t)
	f, err := fake.Listen(t.Context(), balance.Config{Name: "web", Listener: ln, Mode: bunfile.ModeTCP})
	if err != nil {
		t.Fatal(err)
	}
	f.Update([]balance.Backend{{ID: "a", Addr: "127.0.0.1:1"}})
	f.Update(nil)
	all := fake.Frontends()
	if len(all) != 1 || all[0].Config().Name != "web" || all[0].ShutDown() {
		t.Fatalf("recorded %+v", all)
	}
	if u := all[0].Updates(); len(u) != 2 || len(u[0]) != 1 || u[0][0].ID != "a" || len(u[1]) != 0 {
		t.Errorf("recorded updates %v", u)
	}
	if err := f.Shutdown(t.Context()); err != nil || !all[0].ShutDown() {
		t.Errorf("Shutdown = %v, recorded %v", err, all[0].ShutDown())
	}
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}
