package replica_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/budgiehq/budgie/replica"
	"github.com/budgiehq/budgie/replica/replicatest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConformance(t *testing.T) {
	replicatest.Run(t, func(*testing.T) replicatest.Syncer { return replica.New() })
}
