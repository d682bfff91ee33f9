package balance_test

import (
	"testing"

	"github.com/budgiehq/budgie/balance"
	"github.com/budgiehq/budgie/balance/balancetest"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestProxyConforms(t *testing.T) {
	balancetest.Run(t, func(*testing.T) balancetest.Balancer { return balance.New() })
}
