//go:build linux

package containerd

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// withLayers returns a manifest's children with such layers.
func withLayers(contents ...string) []ocispec.Descriptor {
	children := []ocispec.Descriptor{{MediaType: ocispec.MediaTypeImageConfig, Digest: digest.FromString("config")}}
	for _, c := range contents {
		children = append(children, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: digest.FromString(c)})
	}
	return children
}

// Whoever comes first, layers begin from the lowest one on, two at a time.
func TestTurnsAreInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := newTurns(2)
		turns.expect(withLayers("a", "b", "a", "c", "d"))
		var mu sync.Mutex
		dones := map[string]func(){} // of those that have begun
		for _, c := range []string{"d", "c", "b", "a"} {
			go func() {
				done, err := turns.begin(t.Context(), digest.FromString(c))
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				dones[c] = done
			}()
			synctest.Wait()
		}
		for i, want := range []string{"ab", "abc", "abcd"} {
			synctest.Wait()
			if got := strings.Join(slices.Sorted(maps.Keys(dones)), ""); got != want {
				t.Fatalf("after %d layers are fetched, %q have begun, want %q", i, got, want)
			}
			if c := string("bca"[i]); i < 2 {
				dones[c]()
			}
		}
		// The second one of the same, and one that is in no manifest.
		dones["a"]()
		dones["d"]()
		for _, c := range []string{"a", "x"} {
			if _, err := turns.begin(t.Context(), digest.FromString(c)); err != nil {
				t.Error(err)
			}
		}
	})
}

// Waiting for a turn, and for a place, ends with the context.
func TestTurnsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := newTurns(1)
		turns.expect(withLayers("a", "b", "c"))
		if _, err := turns.begin(t.Context(), digest.FromString("a")); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		enough := errors.New("enough")
		for _, c := range []string{"b", "c"} {
			go func() {
				if _, err := turns.begin(ctx, digest.FromString(c)); !errors.Is(err, enough) {
					t.Errorf("%s: %v", c, err)
				}
			}()
		}
		synctest.Wait()
		cancel(enough)
		synctest.Wait()
		// A new attempt begins anew.
		turns.expect(withLayers("a", "b"))
		ctx, cancel = context.WithCancelCause(t.Context())
		cancel(enough)
		if _, err := turns.begin(ctx, digest.FromString("b")); !errors.Is(err, enough) {
			t.Errorf("before the lowest one of the new attempt: %v", err)
		}
	})
}

// A layer of a manifest that is forgotten does not wait for those below it, which
// are no longer known to be there.
func TestTurnsForget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := newTurns(1)
		turns.expect(withLayers("a", "b", "c"))
		for _, c := range []string{"b", "c"} {
			go func() {
				done, err := turns.begin(t.Context(), digest.FromString(c))
				if err != nil {
					t.Errorf("%s: %v", c, err)
					return
				}
				done()
			}()
		}
		synctest.Wait()
		turns.expect(withLayers("x"))
		synctest.Wait() // a deadlock fails the test
	})
}
