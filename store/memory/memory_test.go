package memory_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/budgiehq/budgie/store/memory"
	"github.com/budgiehq/budgie/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestStore(t *testing.T) {
	storetest.Run(t, func(*testing.T) storetest.Store { return memory.New() })
}
