package replica_test

import (
	"testing"

	"github.com/budgiehq/budgie/replica"
	"github.com/budgiehq/budgie/replica/replicatest"
)

func TestConformance(t *testing.T) {
	replicatest.Run(t, func(*testing.T) replicatest.Syncer { return replica.New() })
}
