package budgie

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/budgiehq/budgie/trust"
)

// A node whose clock is off is named, once.
func TestSkewIsNamed(t *testing.T) {
	var out bytes.Buffer
	c := &Client{log: slog.New(slog.NewTextHandler(&out, nil))}
	watch := c.newSkewWatch()
	watch(trust.Peer{Node: "right"})
	for range 3 {
		watch(trust.Peer{Node: "wrongwrongwrong", Skew: -25 * time.Hour})
	}
	if text := out.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, "node=wrongwrongwr ahead=-25h0m0s") {
		t.Errorf("it reports %q", text)
	}
}
