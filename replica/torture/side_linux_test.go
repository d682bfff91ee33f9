package torture

import (
	"bufio"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// side is a process that sends or follows.
type side struct {
	role, dir, link string
	// user is who it runs as, 0 for who the test is.
	user uint32

	cmd *exec.Cmd
	// lines is called with each line that it prints.
	lines func(line string)
	done  chan struct{}
	in    io.Closer
	errs  *tail
}

// start starts the process.
func (s *side) start(t *testing.T) {
	t.Helper()
	s.cmd = exec.Command("/proc/self/exe")
	s.cmd.Env = append(os.Environ(), roleEnv+"="+s.role, dirEnv+"="+s.dir, linkEnv+"="+s.link)
	if s.user != 0 {
		s.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: s.user, Gid: s.user}}
	}
	stdin, err := s.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if s.errs == nil {
		s.errs = &tail{}
	}
	s.in, s.cmd.Stderr, s.done = stdin, s.errs, make(chan struct{})
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func(cmd *exec.Cmd, done chan struct{}) {
		defer close(done)
		scanner := bufio.NewScanner(out)
		scanner.Buffer(nil, 4<<20)
		for scanner.Scan() {
			s.lines(scanner.Text())
		}
		_ = cmd.Wait() // it was killed
	}(s.cmd, s.done)
}

// kill ends the process at once.
func (s *side) kill() {
	_ = s.cmd.Process.Kill() // if it has ended, checks say so
	<-s.done
	_ = s.in.Close()
}

// died says that the process ended by itself.
func (s *side) died() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

func (s *side) signal(sig syscall.Signal) { _ = s.cmd.Process.Signal(sig) }

// tail keeps the end of what is written to it, and whether it was a crash.
type tail struct {
	mu      sync.Mutex
	text    string
	crashed bool
}

// Write implements io.Writer.
func (w *tail) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text += string(p)
	w.crashed = w.crashed || strings.Contains(w.text, "DATA RACE") || strings.Contains(w.text, "panic: ") || strings.Contains(w.text, "fatal error: ")
	w.text = w.text[max(0, len(w.text)-16<<10):]
	return len(p), nil
}

func (w *tail) read() (text string, crashed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text, w.crashed
}

// decode reads a line of a follower. A process that is killed leaves a part of one.
func decode(line string) (n news, ok bool) {
	return n, json.Unmarshal([]byte(line), &n) == nil
}
