//go:build unix

package main

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// seat is a user at a terminal, in front of a data directory with a container
// named web.
type seat struct {
	*testing.T
	data string
	// keyboard is the user's end of the terminal, screen the program's.
	keyboard, screen *os.File
	// lines are what appears.
	lines chan string
	cmd   *exec.Cmd
}

func newSeat(t *testing.T) *seat {
	t.Helper()
	dir := t.TempDir()
	s := &seat{T: t, data: filepath.Join(dir, "data"), lines: make(chan string, 1024)}
	t.Cleanup(func() { endAll(s.data) })
	file := filepath.Join(dir, "web.bun")
	if err := os.WriteFile(file, []byte("version: \"1.0\"\nimage: {command: [testserver]}\nports: [{container_port: 80}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := s.command("run", "-d", file).CombinedOutput(); err != nil {
		t.Fatalf("run: %v\n%s", err, out)
	}
	var err error
	if s.keyboard, s.screen, err = pty.Open(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.screen.Close(); _ = s.keyboard.Close() })
	go func() {
		defer close(s.lines)
		for in := bufio.NewScanner(s.keyboard); in.Scan(); {
			s.lines <- strings.TrimRight(in.Text(), "\r")
		}
	}()
	s.resize(24, 80)
	return s
}

func (s *seat) command(args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(binDir, "budgie"), args...)
	cmd.Env = append(os.Environ(), "BUDGIE_DATA_DIR="+s.data, "BUDGIE_BIND=127.0.0.1", "BUDGIE_INTERFACES="+loopback(), "TERM=vt100",
		"PATH="+binDir+string(os.PathListSeparator)+os.Getenv("PATH"))
	return cmd
}

// start runs budgie on the terminal.
func (s *seat) start(args ...string) {
	s.Helper()
	s.cmd = s.command(args...)
	s.cmd.Stdin, s.cmd.Stdout, s.cmd.Stderr = s.screen, s.screen, s.screen
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := s.cmd.Start(); err != nil {
		s.Fatal(err)
	}
	cmd := s.cmd
	s.Cleanup(func() {
		_ = cmd.Process.Kill() // or it has ended
		_ = cmd.Wait()
	})
}

func (s *seat) resize(rows, columns uint16) {
	s.Helper()
	if err := pty.Setsize(s.keyboard, &pty.Winsize{Rows: rows, Cols: columns}); err != nil {
		s.Fatal(err)
	}
}

func (s *seat) typed(text string) {
	s.Helper()
	if _, err := io.WriteString(s.keyboard, text); err != nil {
		s.Fatal(err)
	}
}

// expect waits until a line ends with a text, and returns it.
func (s *seat) expect(want string) string {
	s.Helper()
	var seen []string
	for deadline := time.After(30 * time.Second); ; {
		select {
		case line, more := <-s.lines:
			if seen = append(seen, line); strings.HasSuffix(line, want) {
				return line
			}
			if !more {
				s.Fatalf("%q never came, but %q", want, seen)
			}
		case <-deadline:
			s.Fatalf("%q never came, but %q", want, seen)
		}
	}
}

// ended waits for the program's end, and checks its exit status and that the
// terminal is as it was.
func (s *seat) ended(status int) {
	s.Helper()
	_ = ends(s.T, s.cmd)
	if got := s.cmd.ProcessState.ExitCode(); got != status {
		s.Errorf("%v: exit status %d, want %d", s.cmd.Args[1:], got, status)
	}
	if s.raw() {
		s.Errorf("%v left the terminal raw", s.cmd.Args[1:])
	}
}

// raw reports whether the terminal is raw now.
func (s *seat) raw() bool {
	s.Helper()
	state, err := unix.IoctlGetTermios(int(s.screen.Fd()), getTermios)
	if err != nil {
		s.Fatal(err)
	}
	return state.Lflag&(unix.ICANON|unix.ECHO|unix.ISIG) == 0
}

// TestExecTerminal: the command has the user's terminal: its size, its kind,
// what is typed, Ctrl-C included, and resizes.
func TestExecTerminal(t *testing.T) {
	s := newSeat(t)
	s.resize(33, 99)
	// No word of the script is a line that it prints: typed text is echoed.
	s.start("exec", "-it", "web", "sh", "-c", `test -t 0 && test -t 1 && test -t 2 && echo all of "it"
stty size; echo "[$TERM]"
trap 'echo interrupt"ed"' INT
trap 'stty size' WINCH
echo "read"y
while :; do read line || continue; case $line in exit) exit 5;; *) echo "got <$line>";; esac; done`)
	s.expect("all of it")
	s.expect("33 99")
	s.expect("[vt100]")
	s.expect("ready")
	if !s.raw() {
		t.Error("the terminal is not raw")
	}
	s.typed("some words\r")
	s.expect("got <some words>")
	s.typed("\x03")
	s.expect("interrupted")
	s.resize(44, 111)
	// The trap runs when read is done.
	s.expectSoon("44 111", "\r")
	s.typed("exit\r")
	s.ended(5)
}

// expectSoon types a text until a line ends with another.
func (s *seat) expectSoon(want, text string) {
	s.Helper()
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case line, more := <-s.lines:
			if strings.HasSuffix(line, want) {
				return
			}
			if !more {
				s.Fatalf("%q never came", want)
			}
		case <-tick.C:
			s.typed(text)
		case <-deadline:
			s.Fatalf("%q never came", want)
		}
	}
}

// TestExecTerminalEnds: however it ends, the terminal is as it was, and the exit
// status tells how.
func TestExecTerminalEnds(t *testing.T) {
	s := newSeat(t)
	const idle = `trap "" TERM HUP; echo "read"y; while :; do sleep 1; done`
	for _, test := range []struct {
		name    string
		signals []syscall.Signal
		status  int
	}{
		{"interrupt", []syscall.Signal{syscall.SIGINT}, 130},
		{"terminate", []syscall.Signal{syscall.SIGTERM}, 143},
		{"hang up", []syscall.Signal{syscall.SIGHUP}, 129},
		{"quit", []syscall.Signal{syscall.SIGQUIT}, 2}, // Go's own
	} {
		s.T.Run(test.name, func(t *testing.T) {
			s := &seat{T: t, data: s.data, keyboard: s.keyboard, screen: s.screen, lines: s.lines}
			s.start("exec", "-it", "web", "sh", "-c", idle)
			s.expect("ready")
			if !s.raw() {
				t.Error("the terminal is not raw")
			}
			for _, sig := range test.signals {
				if err := s.cmd.Process.Signal(sig); err != nil {
					t.Fatal(err)
				}
			}
			s.ended(test.status)
		})
	}
	s.start("exec", "-it", "web", "no-such-command")
	s.expect("install it, or give its absolute path")
	s.ended(1)
	s.start("exec", "-it", "nosuch", "sh")
	s.expect("no name is that")
	s.ended(1)
	// Without -i nothing is read, and Ctrl-C is budgie's own.
	s.start("exec", "-t", "web", "sh", "-c", idle)
	s.expect("ready")
	s.typed("\x03")
	s.ended(130)
	// Without -t there is no terminal, though there is one to read from.
	s.start("exec", "-i", "web", "sh", "-c", `test -t 0 || test -t 1 || test -t 2 || echo no"ne"; read line; echo "<$line>"`)
	s.expect("none")
	s.typed("a line\n")
	s.expect("<a line>")
	s.ended(0)
	// The end of the container.
	s.start("exec", "-it", "web", "sh", "-c", idle)
	s.expect("ready")
	if out, err := s.command("stop", "-t", "0s", "web").CombinedOutput(); err != nil {
		t.Fatalf("stop: %v\n%s", err, out)
	}
	s.ended(137)
}

// TestStatsTerminal: on a terminal a table takes the place of the one before.
func TestStatsTerminal(t *testing.T) {
	s := newSeat(t)
	s.start("stats")
	for range 3 {
		header := s.expect("PIDS")
		if !strings.HasPrefix(header, "\x1b[H\x1b[J") {
			t.Errorf("the header is %q", header)
		}
		if line := <-s.lines; !strings.HasPrefix(line, "web ") {
			t.Errorf("after the header there is %q", line)
		}
	}
	s.typed("\x03")
	s.ended(0)
}

// TestTerminalKept: a terminal is given back once, as it was, and nothing is
// done to one that was not changed.
func TestTerminalKept(t *testing.T) {
	var u userTerminal
	u.restore()
	keyboard, screen, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = keyboard.Close(); _ = screen.Close() }()
	before, err := term.GetState(int(screen.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	func() {
		defer func() { _ = recover() }()
		stdin := os.Stdin
		os.Stdin = screen
		defer func() { os.Stdin = stdin }()
		_, restore, err := u.lend(true)
		if err != nil {
			t.Fatal(err)
		}
		defer restore()
		if now, err := term.GetState(int(screen.Fd())); err != nil || *now == *before {
			t.Errorf("the terminal is not changed (%v)", err)
		}
		panic("in the midst of it")
	}()
	if now, err := term.GetState(int(screen.Fd())); err != nil || *now != *before {
		t.Errorf("after a panic the terminal is not as it was (%v)", err)
	}
}
