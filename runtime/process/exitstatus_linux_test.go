package process

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/internal/testenv"
	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/runtime"
	"github.com/budgiehq/budgie/runtime/runtimetest"
)

// tellsExits says whether the kernel tells of the end of a process that was waited for.
func tellsExits(t *testing.T) bool {
	t.Helper()
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		t.Fatal(err)
	}
	var major, minor int
	if _, err := fmt.Sscanf(unix.ByteSliceToString(name.Release[:]), "%d.%d", &major, &minor); err != nil {
		t.Fatal(err)
	}
	return major > 6 || major == 6 && minor >= 15
}

// The exit code of a container is known to a supervisor that is not its parent, whether
// its parent waits for it or not; and a job that ended well counts as that.
func TestExitCodeOfAnAdoptedProcess(t *testing.T) {
	for name, reaped := range map[string]bool{"zombie": false, "reaped": true} {
		t.Run(name, func(t *testing.T) {
			if reaped && !tellsExits(t) {
				testenv.Skip(t, "a kernel from 6.15 on is needed")
			}
			for _, code := range []int{0, 7} {
				dir, id := t.TempDir(), runtimetest.NewID()
				file := filepath.Join(t.TempDir(), "end")
				r := open(t, dir)
				what := bunfile.Spec{Version: bunfile.Version, Name: "job"}
				what.Image.Command = []string{"sh", "-c", fmt.Sprintf("while ! [ -e %s ]; do sleep 0.02; done; exit %d", file, code)}
				if err := r.Create(t.Context(), runtime.Config{ID: id, Spec: what}); err != nil {
					t.Fatal(err)
				}
				st, err := r.Start(t.Context(), id)
				if err != nil {
					t.Fatal(err)
				}
				pid := st.PID
				if err := r.Release(t.Context(), id); err != nil {
					t.Fatal(err)
				}
				startSupervisor(t, "hold", dir, id)
				if err := os.WriteFile(file, nil, 0o600); err != nil {
					t.Fatal(err)
				}
				if reaped {
					if _, err := syscall.Wait4(pid, nil, 0, nil); err != nil {
						t.Error(err)
					}
				}
				st, err = r.Wait(t.Context(), id)
				if err != nil || st.State != lifecycle.Stopped || st.Exit == nil || st.Exit.Code != code {
					t.Errorf("the end is %+v, %v; want code %d", st, err, code)
				}
				if !reaped {
					_, _ = syscall.Wait4(pid, nil, 0, nil) // or somebody did
				}
				if err := r.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}
