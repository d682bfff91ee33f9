package benchreport

import (
	"errors"
	"fmt"
	"os"
	"os/exec"

	"github.com/budgiehq/budgie/internal/isolation"
)

// Setup installs what a benchmark needs by scripts of the repository, in whose
// root it has to run, as root. In the namespaces that [isolation.Isolate] makes it
// does nothing: it was done before.
func Setup(scripts ...string) error {
	if isolation.Begun() {
		return nil
	}
	if os.Geteuid() != 0 {
		return errors.New("containers and their networks need root: run it with sudo")
	}
	// The command is built where no module can be had any more.
	if err := exec.Command("go", "list", "-deps", "./cmd/budgie").Run(); err != nil {
		return fmt.Errorf("get the modules of ./cmd/budgie, from the root of the repository: %w", err)
	}
	for _, script := range scripts {
		cmd := exec.Command("bash", script)
		cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("%s, from the root of the repository: %w", script, err)
		}
	}
	return nil
}

// Publish prints the result of a benchmark and puts it into its section of a
// file, if that is not empty.
func Publish(text, file, section string) error {
	fmt.Print(text)
	if file == "" {
		return nil
	}
	return WriteSection(file, section, text)
}
