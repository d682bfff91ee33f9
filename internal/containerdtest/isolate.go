package containerdtest

import "github.com/budgiehq/budgie/internal/isolation"

// Isolate is called first in TestMain: see [isolation.Isolate].
func Isolate() { isolation.Isolate() }
