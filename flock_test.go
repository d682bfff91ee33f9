package budgie_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/budgiehq/budgie"
	"github.com/budgiehq/budgie/discovery"
	"github.com/budgiehq/budgie/trust"
)

// The programs that share a data directory share its token, and what one of
// them changes the others know at once.
func TestTokenOfADataDirectory(t *testing.T) {
	dir := t.TempDir()
	a := newClient(t, budgie.WithoutDiscovery(), budgie.WithDataDir(dir))
	b := newClient(t, budgie.WithoutDiscovery(), budgie.WithDataDir(dir))
	same := func(want trust.Token) {
		t.Helper()
		for _, c := range []*budgie.Client{a, b} {
			if got, err := c.Token(t.Context()); err != nil || !got.Equal(want) {
				t.Errorf("flock %s, want %s: %v", got.FlockID(), want.FlockID(), err)
			}
		}
	}
	first, err := a.Token(t.Context())
	if err != nil || first.IsZero() {
		t.Fatal(err)
	}
	same(first)
	second, err := b.RotateToken(t.Context())
	if err != nil || second.Equal(first) {
		t.Fatal(err)
	}
	same(second)
	if err := a.SetToken(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	same(first)
}

// Listing containers makes no keys.
func TestKeysAreMadeWhenNeeded(t *testing.T) {
	c := newClient(t)
	if _, err := c.List(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"token", "node.key"} {
		if _, err := os.Lstat(filepath.Join(c.DataDir(), name)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTokenThatIsGiven(t *testing.T) {
	given, inEnvironment := trust.NewToken(), trust.NewToken()
	t.Setenv("BUDGIE_TOKEN", inEnvironment.Reveal())
	for _, c := range []struct {
		name string
		opts []budgie.Option
		want trust.Token
	}{
		{"BUDGIE_TOKEN", nil, inEnvironment},
		{"WithToken", []budgie.Option{budgie.WithToken(given)}, given},
	} {
		t.Run(c.name, func(t *testing.T) {
			client := newClient(t, append(c.opts, budgie.WithoutDiscovery())...)
			if got, err := client.Token(t.Context()); err != nil || !got.Equal(c.want) {
				t.Errorf("Token: %v", err)
			}
			if err := client.SetToken(t.Context(), trust.NewToken()); !errors.Is(err, budgie.ErrTokenFixed) || !strings.Contains(err.Error(), c.name) {
				t.Errorf("SetToken: %v", err)
			}
			if _, err := client.RotateToken(t.Context()); !errors.Is(err, budgie.ErrTokenFixed) || !strings.Contains(err.Error(), c.name) {
				t.Errorf("RotateToken: %v", err)
			}
			if _, err := os.Lstat(filepath.Join(client.DataDir(), "token")); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("a file was made: %v", err)
			}
		})
	}
}

func TestRubbishTokens(t *testing.T) {
	if _, err := budgie.New(budgie.WithDataDir(t.TempDir()), budgie.WithToken(trust.Token{})); err == nil || !strings.Contains(err.Error(), "WithToken") {
		t.Errorf("the zero token: %v", err)
	}
	rubbish := trust.NewToken().Reveal()[:50]
	t.Setenv("BUDGIE_TOKEN", rubbish)
	_, err := budgie.New(budgie.WithDataDir(t.TempDir()))
	if !errors.Is(err, trust.ErrToken) || !strings.Contains(err.Error(), "BUDGIE_TOKEN") || strings.Contains(err.Error(), rubbish[20:30]) {
		t.Errorf("rubbish in BUDGIE_TOKEN: %v", err)
	}
	newClient(t, budgie.WithToken(trust.NewToken())) // overrides it
	t.Setenv("BUDGIE_TOKEN", "")
	c := newClient(t, budgie.WithoutDiscovery())
	if err := os.WriteFile(filepath.Join(c.DataDir(), "token"), []byte(rubbish), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Token(t.Context()); !errors.Is(err, budgie.ErrTokenUnusable) {
		t.Errorf("rubbish in the file: %v", err)
	}
}

func TestTokenOfAClosedClient(t *testing.T) {
	c, err := budgie.New(budgie.WithDataDir(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Token(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that has ended: %v", err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Token(t.Context()); !errors.Is(err, budgie.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// Announcements say which flock a node is in, and follow the token, also when
// another program changes it.
func TestAnnouncementsNameTheFlock(t *testing.T) {
	f := newFakes(t)
	other := f.network.Join()
	defer func() { _ = other.Close() }()
	events, err := other.Browse(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	next := func(want discovery.EventType, flock trust.Token) discovery.Service {
		t.Helper()
		select {
		case ev := <-events:
			if ev.Type != want || ev.Service.Flock != flock.FlockID() {
				t.Fatalf("%s of flock %q, want %s of %q", ev.Type, ev.Service.Flock, want, flock.FlockID())
			}
			return ev.Service
		case <-time.After(30 * time.Second):
			t.Fatal("no event")
		}
		return discovery.Service{}
	}
	tok, err := f.Token(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Run(t.Context(), web("web")); err != nil {
		t.Fatal(err)
	}
	before := next(discovery.Added, tok)
	if len(before.Node) != 64 {
		t.Errorf("announced by node %q", before.Node)
	}
	if tok, err = f.RotateToken(t.Context()); err != nil {
		t.Fatal(err)
	}
	if after := next(discovery.Updated, tok); after.ID != before.ID || after.Node != before.Node {
		t.Errorf("announced %+v, before %+v", after, before)
	}
	if err := f.Stop(t.Context(), "web"); err != nil {
		t.Fatal(err)
	}
	next(discovery.Removed, tok)
}

// A token that cannot be used keeps nothing from being announced; when it can
// be used again the flock is announced too.
func TestAnnouncementWithoutAFlock(t *testing.T) {
	f := newFakes(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "token")
	if err := os.WriteFile(path, []byte("rubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := newClient(t, budgie.WithDataDir(dir), budgie.WithRuntime(f.runtime), budgie.WithDiscoverer(f.node))
	other := f.network.Join()
	defer func() { _ = other.Close() }()
	events, err := other.Browse(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Run(t.Context(), web("web")); err != nil {
		t.Fatal(err)
	}
	if ev := <-events; ev.Type != discovery.Added || ev.Service.Flock != "" {
		t.Fatalf("%s of flock %q", ev.Type, ev.Service.Flock)
	}
	tok, err := c.RotateToken(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	select {
	case ev := <-events:
		if ev.Type != discovery.Updated || ev.Service.Flock != tok.FlockID() {
			t.Fatalf("%s of flock %q", ev.Type, ev.Service.Flock)
		}
	case <-time.After(60 * time.Second):
		t.Fatal("the flock was never announced")
	}
}
