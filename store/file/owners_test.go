package file_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/budgiehq/budgie/store/file"
)

// ownerFiles lists the files of owner names.
func ownerFiles(t *testing.T, s *file.Store) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(s.Dir(), "owners"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if e.Name() != ".gate" {
			names = append(names, e.Name())
		}
	}
	return names
}

// Programs draw their owner names at random: they must not pile up.
func TestOwnerFilesGo(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	release, err := s.Acquire(t.Context(), "released")
	if err != nil {
		t.Fatal(err)
	}
	if got := ownerFiles(t, s); !slices.Equal(got, []string{"released.lock"}) {
		t.Errorf("while held: %q", got)
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
	if got := ownerFiles(t, s); len(got) != 0 {
		t.Errorf("after release: %q", got)
	}

	for _, owner := range []string{"dead-1", "dead-2"} {
		p := start(t, "hold "+owner, dir)
		p.mustLine()
		p.kill()
	}
	if got := ownerFiles(t, s); !slices.Contains(got, "dead-2.lock") {
		t.Errorf("after a death: %q, so nothing is tested here", got)
	}
	if alive, err := s.Alive(t.Context(), "dead-1"); alive || err != nil {
		t.Errorf("Alive: %v, %v", alive, err)
	}
	if got := ownerFiles(t, s); slices.Contains(got, "dead-1.lock") {
		t.Errorf("after somebody looked for it: %q", got)
	}
	living, err := s.Acquire(t.Context(), "living")
	if err != nil {
		t.Fatal(err)
	}
	open(t, dir)
	if got := ownerFiles(t, s); !slices.Equal(got, []string{"living.lock"}) {
		t.Errorf("after another Open: %q, want that of the living one alone", got)
	}
	if err := living(); err != nil {
		t.Error(err)
	}
}

// The holder is named by its process, and nonsense in the file is not.
func TestOwnedErrorNamesTheProcess(t *testing.T) {
	s := open(t, t.TempDir())
	if _, err := s.Acquire(t.Context(), "me"); err != nil {
		t.Fatal(err)
	}
	_, err := s.Acquire(t.Context(), "me")
	if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("process %d, which is this one", os.Getpid())) {
		t.Errorf("Acquire: %v", err)
	}
	for _, text := range []string{"", "nonsense\n", "-7\n"} {
		if err := os.WriteFile(filepath.Join(s.Dir(), "owners", "me.lock"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := s.Acquire(t.Context(), "me")
		if err == nil || !strings.HasSuffix(err.Error(), "held by another process") {
			t.Errorf("Acquire with %q in the file: %v", text, err)
		}
	}
}

// Many processes that want one name, while others look: one has it at a time.
func TestProcessesCompeteForAName(t *testing.T) {
	const processes, rounds = 4, 25
	dir := t.TempDir()
	s := open(t, dir)
	ended := make(chan error, processes)
	for range processes {
		p := start(t, fmt.Sprint("compete ", rounds), dir)
		go func() { ended <- p.cmd.Wait() }()
	}
	for left := processes; left > 0; { // look without pause while they compete
		if _, err := s.Alive(t.Context(), "wanted"); err != nil {
			t.Error(err)
		}
		select {
		case err := <-ended:
			left--
			if err != nil {
				t.Errorf("child: %v", err)
			}
		default:
		}
	}
}
