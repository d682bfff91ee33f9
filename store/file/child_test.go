package file_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/store"
	"github.com/budgiehq/budgie/store/file"
)

// The tests that need other processes start this test binary again, with what
// it shall do in childEnv and the data directory in dirEnv.
const (
	childEnv = "BUDGIE_STORE_TEST_CHILD"
	dirEnv   = "BUDGIE_STORE_TEST_DIR"
)

func TestMain(m *testing.M) {
	if do := os.Getenv(childEnv); do != "" {
		if err := child(do, os.Getenv(dirEnv)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// child is the main function of a child process.
func child(do, dir string) error {
	s, err := file.Open(dir)
	if err != nil {
		return err
	}
	defer s.Close()
	ctx := context.Background()
	word, arg, _ := strings.Cut(do, " ")
	switch word {
	case "write":
		return childWrite(ctx, s)
	case "increment":
		return childIncrement(ctx, s, arg)
	case "put-on-demand":
		return childPutOnDemand(ctx, s)
	case "hold":
		return childHold(ctx, s, arg, false)
	case "hold-with-child":
		return childHold(ctx, s, arg, true)
	case "compete":
		return childCompete(ctx, s, arg)
	case "use":
		_, lerr := s.List(ctx)
		_, perr := s.Put(ctx, lifecycle.Container{ID: "aa", Name: "a"})
		fmt.Printf("list: %v\nput: %v\n", lerr, perr)
		return nil
	}
	return fmt.Errorf("unknown child %q", do)
}

// The record that childWrite writes tells by itself whether it is whole.
func crashRecord(c lifecycle.Container, n uint64) lifecycle.Container {
	c.ID, c.Name = "crash", "crash"
	c.Restarts = int(n)
	c.Reason = strings.Repeat(strconv.FormatUint(n, 10)+" ", 3000)
	return c
}

// childWrite writes for ever and reports every revision that is acknowledged.
func childWrite(ctx context.Context, s *file.Store) error {
	c, err := s.Get(ctx, "crash")
	if err != nil {
		return err
	}
	for {
		if c, err = s.Put(ctx, crashRecord(c, c.Revision+1)); err != nil {
			return err
		}
		fmt.Println(c.Revision)
	}
}

func childIncrement(ctx context.Context, s *file.Store, arg string) error {
	n, err := strconv.Atoi(arg)
	if err != nil {
		return err
	}
	for range n {
		_, err := store.Modify(ctx, s, "counter", func(c *lifecycle.Container) error {
			c.Restarts++
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// childPutOnDemand writes once for every line it reads, and reports when the
// write was done.
func childPutOnDemand(ctx context.Context, s *file.Store) error {
	c := lifecycle.Container{ID: "watched", Name: "watched"}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		c.Restarts++
		var err error
		if c, err = s.Put(ctx, c); err != nil {
			return err
		}
		fmt.Println(time.Now().UnixNano())
	}
	return lines.Err()
}

// childHold holds an owner name until its standard input ends, and reports its
// own process, or that of a child which lives on.
func childHold(ctx context.Context, s *file.Store, owner string, withChild bool) error {
	if _, err := s.Acquire(ctx, owner); err != nil {
		return err
	}
	pid := os.Getpid()
	if withChild {
		cmd := exec.Command("sleep", "60")
		if err := cmd.Start(); err != nil {
			return err
		}
		pid = cmd.Process.Pid
	}
	fmt.Println(pid)
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// childCompete takes an owner name as often as it is told to, against others
// that do so too. A directory that only the holder makes shows that there is
// one at a time.
func childCompete(ctx context.Context, s *file.Store, arg string) error {
	n, err := strconv.Atoi(arg)
	if err != nil {
		return err
	}
	mark := filepath.Join(s.Dir(), "mark")
	for n > 0 {
		release, err := s.Acquire(ctx, "wanted")
		if errors.Is(err, store.ErrOwned) {
			runtime.Gosched()
			continue
		} else if err != nil {
			return err
		}
		if err := os.Mkdir(mark, 0o700); err != nil {
			return fmt.Errorf("two hold the name: %w", err)
		}
		if alive, err := s.Alive(ctx, "wanted"); err != nil || !alive {
			return fmt.Errorf("Alive while holding the name: %v, %w", alive, err)
		}
		if err := os.Remove(mark); err != nil {
			return err
		}
		if err := release(); err != nil {
			return err
		}
		n--
	}
	return nil
}

// process is a child seen from its parent.
type process struct {
	t     *testing.T
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines *bufio.Reader
}

// start starts a child, which is killed at the end of the test at the latest.
func start(t *testing.T, do, dir string) *process {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+do, dirEnv+"="+dir)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, cmd: cmd, in: in, lines: bufio.NewReader(out)}
	t.Cleanup(p.kill)
	return p
}

// line returns the next number that the child reports; ok is false after its
// end. A line that is not whole was not reported.
func (p *process) line() (n int64, ok bool) {
	p.t.Helper()
	text, err := p.lines.ReadString('\n')
	if err != nil {
		return 0, false
	}
	n, err = strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	if err != nil {
		p.t.Fatal(err)
	}
	return n, true
}

// mustLine returns the next number of a child that must go on.
func (p *process) mustLine() int64 {
	p.t.Helper()
	n, ok := p.line()
	if !ok {
		p.t.Fatal("the child has ended")
	}
	return n
}

// kill ends the child by SIGKILL and waits for its end.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	_ = p.cmd.Wait()
}
