package watch_test

import (
	"testing"
	"time"

	"github.com/budgiehq/budgie/replica/watch"
	"github.com/budgiehq/budgie/replica/watch/watchtest"
)

// With a fallback so late that nothing else can help.
func TestInotifyConforms(t *testing.T) {
	watchtest.Run(t, watch.New, true, watch.WithFallback(time.Hour))
}
