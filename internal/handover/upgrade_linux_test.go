package handover

import (
	"context"
	"testing"
)

// endingGiver says what came of an upgrade not before its program ends, as a busy machine
// has it.
type endingGiver struct {
	*fakeGiver
	asked chan struct{}
}

func (g endingGiver) Upgrade(ctx context.Context) (string, error) {
	close(g.asked)
	<-ctx.Done()
	return "taken over", nil
}

// A process that was replaced ends at once, and says all the same that it was.
func TestUpgradeOfOneThatEnds(t *testing.T) {
	dir := t.TempDir()
	g := endingGiver{newGiver(), make(chan struct{})}
	stop, err := Serve(dir, g)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		<-g.asked
		stop()
	}()
	err = Upgrade(t.Context(), dir, 0, func(_ int, text string, err error) {
		if text != "taken over" || err != nil {
			t.Errorf("it said %q, %v", text, err)
		}
	})
	if err != nil {
		t.Error(err)
	}
	<-ended
}
