package hostmemory_test

import (
	"fmt"
	"math"
	"os"
	"testing"

	"github.com/budgiehq/budgie/internal/hostmemory"
)

// TestCap compares with what the kernel says elsewhere.
func TestCap(t *testing.T) {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		t.Fatal(err)
	}
	var kib uint64
	if _, err := fmt.Sscanf(string(text), "MemTotal: %d kB", &kib); err != nil {
		t.Fatal(err)
	}
	all := kib << 10
	for _, test := range []struct{ limit, want uint64 }{
		{0, all}, {1, 1}, {all - 1, all - 1}, {all, all}, {all + 1, all}, {math.MaxInt64 - 4095, all}, {math.MaxUint64, all},
	} {
		if got := hostmemory.Cap(test.limit); got != test.want {
			t.Errorf("Cap(%d) is %d, want %d", test.limit, got, test.want)
		}
	}
}
