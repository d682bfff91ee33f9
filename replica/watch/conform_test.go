package watch_test

import (
	"testing"
	"time"

	"github.com/budgiehq/budgie/replica/watch"
	"github.com/budgiehq/budgie/replica/watch/watchtest"
)

// The watchers of systems other than Linux, with what this one has.
func TestPortableConforms(t *testing.T) {
	watchtest.Run(t, watch.OpenPortable, false, watch.WithFallback(100*time.Millisecond))
}
