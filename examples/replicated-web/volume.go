package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/budgiehq/budgie/bunfile"
)

// pageFile is the page in the volume, as the replicas see it.
const pageFile = "site/page.txt"

// addVolume gives the service a volume with a page, and returns the page's path. On
// Windows, whose files have no Unix modes, volumes cannot be copied.
func addVolume(dir string, spec *bunfile.Spec) (page string, err error) {
	if runtime.GOOS == "windows" {
		return "", nil
	}
	page = filepath.Join(dir, pageFile)
	if err := os.MkdirAll(filepath.Dir(page), 0o755); err != nil {
		return "", err
	}
	spec.Volumes = []bunfile.Volume{{Source: filepath.Dir(page), Target: "/" + filepath.Dir(pageFile), Mode: bunfile.ReadOnly}}
	return page, os.WriteFile(page, []byte("the page is as it was in the beginning\n"), 0o644)
}

// checkPage edits the page and asks until every replica shows it.
func (c *cluster) checkPage(ctx context.Context, client *http.Client, url string) error {
	if c.page == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, recovery)
	defer cancel()
	want := fmt.Sprintf("the page was edited at %s\n", time.Now().UTC().Format(startedForm))
	began := time.Now()
	if err := os.WriteFile(c.page, []byte(want), 0o644); err != nil {
		return err
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	shown := make(map[string]bool)
	for len(shown) < len(c.nodes) {
		a, err := ask(ctx, client, url)
		switch {
		case ctx.Err() != nil:
			return fmt.Errorf("within %s, %d of %d replicas showed the edited page", recovery, len(shown), len(c.nodes))
		case err != nil:
			return fmt.Errorf("a request failed while the page was edited: %w", err)
		case a.page == want:
			shown[a.replica] = true
		}
		<-tick.C
	}
	fmt.Printf("the page was edited in the first node's volume: all %d replicas showed it %s later\n", len(shown), time.Since(began).Round(time.Millisecond))
	return nil
}
