package runtime

import (
	"context"
	"io"
)

// ExecConfig is a command to run inside a container. Only Command is needed.
type ExecConfig struct {
	// Command is the program and its arguments. A program without a slash is
	// looked for in the PATH that the command gets.
	Command []string
	// Env are KEY=value entries beside those of the container, or in place of
	// those with the same key.
	Env []string
	// Workdir is an absolute path inside the container, which must exist; empty
	// means the container's working directory.
	Workdir string
	// User is a name, a uid or uid:gid, as in a specification; empty means the
	// container's. Runtimes without users give ErrUnsupported.
	User string

	// Stdin is what the command reads; nil is at its end at once. When it ends,
	// so does the command's input. A Read that does not return does not keep
	// Exec from doing so, and is left behind: Exec may then have read more than
	// the command.
	Stdin io.Reader
	// Stdout and Stderr take what the command writes; nil discards it, and so
	// does an error of Write with the rest. If they are the same, at most one
	// goroutine at a time calls Write.
	Stdout, Stderr io.Writer
	// TTY gives the command a terminal of its own instead of three streams: all
	// output goes to Stdout, with line ends as for a terminal, and the end of
	// Stdin is typed as the end-of-file character (^D). TERM is set to xterm
	// unless Env or the container has another. Nil means no terminal.
	TTY *TTY
}

// TTY is a command's terminal.
type TTY struct {
	// Size is what the command finds when it starts. The zero value means that
	// the size is not known.
	Size TTYSize
	// Resizes brings further sizes until it is closed or the command has ended;
	// the command is told by SIGWINCH. Nil means that the size stays.
	Resizes <-chan TTYSize
}

// TTYSize is the size of a terminal in characters.
type TTYSize struct {
	Rows, Columns uint16
}

// Execer is a runtime that can run further commands inside a running
// container.
type Execer interface {
	// Exec runs a command and returns its exit code, 128 plus the signal's
	// number where a signal ended it. The error is nil whenever the command ran
	// to its end, whatever its exit code; the end of ctx kills it, and so does
	// the container's. All that the command wrote is with Stdout and Stderr when
	// Exec returns, unless ctx has ended; what processes that it left behind
	// write later is not waited for. A container that does not run gives
	// ErrNotRunning, a command that it cannot run ErrCommand.
	Exec(ctx context.Context, id string, cfg ExecConfig) (exitCode int, err error)
}
