package budgie_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/budgiehq/budgie"
	"github.com/budgiehq/budgie/discovery/discoverytest"
	"github.com/budgiehq/budgie/trust"
)

// A volume with the node's own key and token in it is refused before it runs, whatever
// links lead to it, and one beside them, or below them, is not.
func TestVolumeWithTheDataDirectory(t *testing.T) {
	base := t.TempDir()
	for _, dir := range []string{"home/data", "home/data2", "other"} {
		noError(t, os.MkdirAll(filepath.Join(base, dir), 0o700))
	}
	for link, to := range map[string]string{"link": "home", "data": "home/data", "home/loop": "../home"} {
		noError(t, os.Symlink(filepath.FromSlash(to), filepath.Join(base, link)))
	}
	for _, c := range []struct {
		data, volume string
		refused      bool
	}{
		{"home/data", "home/data", true},
		{"home/data", "home", true},
		{"home/data", "link", true},
		{"home/data", "home/loop", true},
		{"data", "home", true},
		{"link/new/data", "home", true}, // one that is made later
		{"home/data2", "home/data", false},
		{"home/data", "other", false},
		{"home", "home/data2", false},
	} {
		a := newNode(t, discoverytest.NewNetwork(), trust.NewToken(), budgie.WithDataDir(filepath.Join(base, c.data)))
		_, err := a.Run(t.Context(), withVolume("web", filepath.Join(base, c.volume)))
		switch refused := errors.Is(err, budgie.ErrNotAllowed); {
		case refused != c.refused || !refused && err != nil:
			t.Errorf("volume %s with the data directory %s: %v", c.volume, c.data, err)
		case refused && (!strings.Contains(err.Error(), "volume /data") || !strings.Contains(err.Error(), "private key")):
			t.Errorf("volume %s with the data directory %s: the error does not say why: %v", c.volume, c.data, err)
		}
	}
}

// A volume's source that cannot be looked at is named.
func TestVolumeSourceIsNamed(t *testing.T) {
	base := t.TempDir()
	loop, file := filepath.Join(base, "loop"), filepath.Join(base, "file")
	noError(t, os.Symlink("loop", loop))
	noError(t, os.WriteFile(file, nil, 0o600))
	a := newNode(t, discoverytest.NewNetwork(), trust.NewToken())
	for _, source := range []string{loop, filepath.Join(file, "below")} {
		_, err := a.Run(t.Context(), withVolume("web", source))
		if err == nil || !strings.Contains(err.Error(), source+" cannot be used") {
			t.Errorf("volume %s: %v", source, err)
		}
	}
}
