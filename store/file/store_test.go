package file_test

import (
	"testing"

	"github.com/budgiehq/budgie/store/file"
	"github.com/budgiehq/budgie/store/storetest"
)

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Store {
		return open(t, t.TempDir())
	}, storetest.Shared(func(t *testing.T, s storetest.Store) storetest.Store {
		return open(t, s.(*file.Store).Dir())
	}))
}

// open opens a store that is closed with the test.
func open(t testing.TB, dir string, opts ...file.Option) *file.Store {
	t.Helper()
	s, err := file.Open(dir, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}
