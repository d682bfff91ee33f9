package runtimetest

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/budgiehq/budgie/bunfile"
)

// programSwitch is the first argument that turns a test binary into the test
// program.
const programSwitch = "runtimetest-program"

// Program is what the containers of the suite run. Call it first in TestMain:
// it returns at once in a test binary that was started to test, and runs the
// test program, and exits, in one that was started as such by the command that
// [ProgramCommand] makes.
//
// The program's arguments, and what it does:
//
//	serve             listens on PORT, else on port 8080, and answers HTTP with its BUDGIE_NAME
//	echo              answers each datagram at BUDGIE_PORT_8080_UDP, else at port 8080, with itself
//	print LINE...     writes odd lines (first, third …) to stdout and even ones to stderr, and exits with 0
//	exit CODE         exits
//	die SIGNAL        sends itself a signal, by its number
//	sleep             sleeps until a signal ends it
//	idle              prints "ready", sleeps until a signal ends it
//	stubborn          ignores SIGTERM, prints "ready", sleeps
//	graceful CODE     prints "ready", and on SIGTERM prints "bye" and exits with CODE
//	spawn             starts a child in a group and a session of its own, prints the child's PID, sleeps
//	orphan            as spawn, and exits with 0 when it has printed
//	count N           prints the numbers from 0 to N-1, one a line, and a sleep of 1 ms after every 10th
//	env KEY...        prints KEY=value lines
//	binary            prints bytes that are no text, and no line feed at the end
//	cat               copies stdin to stdout
//	tty CODE          wants a terminal, prints its size and every other one that it gets, and the lines
//	                  that are typed, and exits when input is over
//	burn              uses 200 ms of processor time and 32 MiB, prints "burnt", and exits when stdin is over
//	write FILE TEXT   writes a file
func Program() {
	if len(os.Args) < 3 || os.Args[1] != programSwitch {
		return
	}
	if err := program(os.Args[2], os.Args[3:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(100)
	}
	os.Exit(0)
}

// ProgramCommand returns the command that makes a test binary, for example
// os.Executable's, run the test program.
func ProgramCommand(binary string, args ...string) []string {
	return append([]string{binary, programSwitch}, args...)
}

func program(verb string, args []string) error {
	switch verb {
	case "serve":
		return serve()
	case "echo":
		return echo()
	case "print":
		for i, line := range args {
			fmt.Fprintln([]io.Writer{os.Stdout, os.Stderr}[i%2], line)
		}
		return nil
	case "exit":
		code, err := strconv.Atoi(args[0])
		if err != nil {
			return err
		}
		os.Exit(code)
	case "sleep":
		time.Sleep(time.Hour)
	case "idle":
		fmt.Println("ready")
		time.Sleep(time.Hour)
	case "stubborn":
		signal.Ignore(syscall.SIGTERM)
		fmt.Println("ready")
		time.Sleep(time.Hour)
	case "graceful":
		return graceful(args[0])
	case "spawn", "orphan":
		return spawn(verb == "orphan")
	case "count":
		if err := count(args[0]); err != nil || len(args) == 1 {
			return err
		}
		time.Sleep(time.Hour) // with any second argument
	case "env":
		for _, key := range args {
			fmt.Printf("%s=%s\n", key, os.Getenv(key))
		}
		return nil
	case "binary":
		_, err := io.WriteString(os.Stdout, binaryOutput)
		return err
	case "cat":
		_, err := io.Copy(os.Stdout, os.Stdin)
		return err
	case "die":
		if err := kill(atoi(args)); err != nil {
			return err
		}
		time.Sleep(time.Hour)
	case "tty":
		return onTerminal(atoi(args))
	case "burn":
		return burn()
	case "write":
		return os.WriteFile(args[0], []byte(args[1]), 0o600)
	}
	return fmt.Errorf("the test program has no verb %q", verb)
}

// binaryOutput is what "binary" prints.
const binaryOutput = "\xff\x00\r\n\x1b[0m P F \xc3\n\nend"

func serve() error {
	port := os.Getenv("PORT")
	if port == "" {
		port = strconv.Itoa(ServePort)
	}
	l, err := net.Listen("tcp", net.JoinHostPort(os.Getenv("SERVE_HOST"), port))
	if err != nil {
		return err
	}
	fmt.Println("listening")
	return http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, os.Getenv("BUDGIE_NAME"))
	}))
}

func echo() error {
	port := os.Getenv(fmt.Sprintf("BUDGIE_PORT_%d_UDP", ServePort))
	if port == "" {
		port = strconv.Itoa(ServePort)
	}
	c, err := net.ListenPacket("udp", net.JoinHostPort(os.Getenv("SERVE_HOST"), port))
	if err != nil {
		return err
	}
	fmt.Println("listening")
	return echoDatagrams(c)
}

// echoDatagrams sends each datagram back, until the socket is closed.
func echoDatagrams(c net.PacketConn) error {
	buf := make([]byte, 1<<16)
	for {
		n, from, err := c.ReadFrom(buf)
		if err != nil {
			return err
		}
		_, _ = c.WriteTo(buf[:n], from) // a datagram may be lost
	}
}

func graceful(code string) error {
	n, err := strconv.Atoi(code)
	if err != nil {
		return err
	}
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGTERM)
	fmt.Println("ready")
	<-c
	fmt.Println("bye")
	os.Exit(n)
	return nil
}

func spawn(orphan bool) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self, programSwitch, "stubborn")
	cmd.SysProcAttr = ownSession()
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		return err
	}
	fmt.Println(cmd.Process.Pid)
	if !orphan {
		time.Sleep(time.Hour)
	}
	return nil
}

func count(limit string) error {
	n, err := strconv.Atoi(limit)
	if err != nil {
		return err
	}
	for i := range n {
		fmt.Println(i)
		if i%10 == 9 {
			time.Sleep(time.Millisecond)
		}
	}
	return nil
}

// ServePort is where "serve" and "echo" listen if their environment says nothing.
const ServePort = 8080

// Spec returns a specification for a command. It passes GOCOVERDIR on, for
// programs that measure their coverage.
func Spec(name string, command ...string) bunfile.Spec {
	spec := bunfile.Spec{
		Version: bunfile.Version,
		Name:    name,
		Image:   bunfile.Image{Command: command},
		// A program built with the race detector sleeps for a second before it
		// exits, unless told otherwise.
		Environment: []string{"GORACE=atexit_sleep_ms=0"},
	}
	if dir := os.Getenv("GOCOVERDIR"); dir != "" {
		spec.Environment = append(spec.Environment, "GOCOVERDIR="+dir)
	}
	return spec
}

// WithPort adds a TCP port to a specification.
func WithPort(spec bunfile.Spec, containerPort int) bunfile.Spec {
	spec = spec.Clone()
	spec.Ports = append(spec.Ports, bunfile.Port{ContainerPort: containerPort, Protocol: bunfile.TCP})
	return spec
}
