package handover

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/budgiehq/budgie/internal/testenv"
)

// strangerDir makes the test binary one of another user's, which asks what serves there.
const strangerDir = "HANDOVER_STRANGER_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(strangerDir); dir != "" {
		stranger(dir)
		return
	}
	goleak.VerifyTestMain(m)
}

// fakeGiver gives what is in it, once at a time.
type fakeGiver struct {
	sockets []Socket
	busy    bool
	fail    error // of Release
	events  chan string
}

func newGiver(sockets ...Socket) *fakeGiver {
	return &fakeGiver{sockets: sockets, events: make(chan string, 10)}
}

func (g *fakeGiver) Offer(want string) (Offer, error) {
	switch want {
	case "it":
		return g, nil
	case "later":
		return nil, errors.New("not now")
	}
	return nil, ErrNone
}

func (g *fakeGiver) Upgrade(context.Context) (string, error) {
	if g.fail != nil {
		return "", g.fail
	}
	return "upgraded", nil
}

func (g *fakeGiver) Busy() bool { return g.busy }

func (g *fakeGiver) Release(_ context.Context, to string) ([]Socket, error) {
	g.events <- "release to " + to
	return g.sockets, g.fail
}

func (g *fakeGiver) Done()  { g.events <- "done" }
func (g *fakeGiver) Abort() { g.events <- "abort" }

func (g *fakeGiver) expect(t *testing.T, want ...string) {
	t.Helper()
	for _, w := range want {
		select {
		case got := <-g.events:
			if got != w {
				t.Errorf("the giver was told %q, want %q", got, w)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("the giver was not told %q", w)
		}
	}
	select {
	case got := <-g.events:
		t.Errorf("the giver was also told %q", got)
	default:
	}
}

func listenTCP(t *testing.T) *net.TCPListener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln.(*net.TCPListener)
}

func serve(t *testing.T, dir string, g Giver) {
	t.Helper()
	stop, err := Serve(dir, g)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
}

func ask(t *testing.T, dir string) *Offered {
	t.Helper()
	o, err := Ask(t.Context(), dir, "it")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { o.Close() })
	return o
}

// Sockets of both kinds change hands: who connects while the one has let go and the
// other does not serve yet waits, and is served.
func TestHandOver(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 40), "handover")
	ln := listenTCP(t)
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	g := newGiver(Socket{Name: "a", Conn: ln}, Socket{Name: "b", Conn: pc.(*net.UDPConn)})
	g.busy = true
	serve(t, dir, g)

	o := ask(t, dir)
	if !o.Busy {
		t.Error("it is not said to be busy")
	}
	g.expect(t)
	sockets, err := o.Release("me")
	if err != nil {
		t.Fatal(err)
	}
	defer closeAll(sockets)
	g.expect(t, "release to me")
	if len(sockets) != 2 || sockets[0].Name != "a" || sockets[1].Name != "b" {
		t.Fatalf("got %+v", sockets)
	}
	waiting, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer waiting.Close()
	ln.Close()
	fmt.Fprint(waiting, "x")
	client, err := net.Dial("udp", pc.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	fmt.Fprint(client, "y")
	if err := o.Serve(); err != nil {
		t.Fatal(err)
	}
	g.expect(t, "done")
	c, err := sockets[0].Listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	deadline := time.Now().Add(10 * time.Second)
	c.SetDeadline(deadline)
	b := make([]byte, 1)
	if _, err := io.ReadFull(c, b); err != nil || string(b) != "x" {
		t.Errorf("got %q, %v", b, err)
	}
	sockets[1].PacketConn.SetReadDeadline(deadline)
	if _, _, err := sockets[1].PacketConn.ReadFrom(b); err != nil || string(b) != "y" {
		t.Errorf("got %q, %v", b, err)
	}
}

// There is no limit to how many come along.
func TestManySockets(t *testing.T) {
	ln := listenTCP(t)
	g := newGiver()
	for i := range 2*maxSockets + 3 {
		g.sockets = append(g.sockets, Socket{Name: fmt.Sprint(i), Conn: ln})
	}
	dir := t.TempDir()
	serve(t, dir, g)
	sockets, err := ask(t, dir).Release("me")
	defer closeAll(sockets)
	if err != nil || len(sockets) != len(g.sockets) {
		t.Fatalf("got %d sockets, %v; want %d", len(sockets), err, len(g.sockets))
	}
	for i, s := range sockets {
		if s.Name != fmt.Sprint(i) {
			t.Fatalf("socket %d is %s", i, s.Name)
		}
	}
}

// A successor that goes away at any moment before it serves has changed nothing.
func TestCaseB9SuccessorFails(t *testing.T) {
	dir := t.TempDir()
	ln := listenTCP(t)
	g := newGiver(Socket{Name: "a", Conn: ln})
	serve(t, dir, g)
	ask(t, dir).Close()
	g.expect(t, "abort")
	o := ask(t, dir)
	sockets, err := o.Release("me")
	if err != nil {
		t.Fatal(err)
	}
	closeAll(sockets)
	o.Close()
	g.expect(t, "release to me", "abort")
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	own, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	own.Close()
	// What is said out of turn, or in vain, is no more than that.
	if err := ask(t, dir).conn.say(message{Do: "dance"}, nil); err != nil {
		t.Fatal(err)
	}
	g.expect(t, "abort")
}

// A giver that cannot let go says why, and is not told to take anything back twice.
func TestRefusals(t *testing.T) {
	dir := t.TempDir()
	g := newGiver()
	g.fail = errors.New("the disk is full")
	serve(t, dir, g)
	if _, err := Ask(t.Context(), dir, "later"); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "not now") {
		t.Errorf("got %v", err)
	}
	if _, err := Ask(t.Context(), dir, "another"); !errors.Is(err, ErrNone) {
		t.Errorf("got %v", err)
	}
	if _, err := ask(t, dir).Release("me"); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "the disk is full") {
		t.Errorf("got %v", err)
	}
	g.expect(t, "release to me", "abort")
}

// A giver that ends in the middle is gone, which the successor learns.
func TestGiverEnds(t *testing.T) {
	dir := t.TempDir()
	stop, err := Serve(dir, newGiver())
	if err != nil {
		t.Fatal(err)
	}
	o := ask(t, dir)
	stop()
	stop()
	if err := o.Serve(); !errors.Is(err, ErrNone) {
		t.Errorf("got %v", err)
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 0 {
		t.Errorf("left behind: %v, %v", files, err)
	}
}

// Who speaks another version of the protocol is told so, by either side.
func TestCaseB9WrongVersion(t *testing.T) {
	dir := t.TempDir()
	g := newGiver()
	serve(t, dir, g)
	o := ask(t, dir)
	if _, err := o.conn.Write([]byte(`{"version":2,"do":"release","new":true}`)); err != nil {
		t.Fatal(err)
	}
	g.expect(t, "abort")
	other := t.TempDir()
	ln, remove, err := listen(other)
	if err != nil {
		t.Fatal(err)
	}
	defer remove()
	defer ln.Close()
	go func() {
		c, err := ln.AcceptUnix()
		if err != nil {
			return
		}
		defer c.Close()
		c.Write([]byte(`{"version":2}`))
		io.Copy(io.Discard, c)
	}()
	if _, err := Ask(t.Context(), other, "it"); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "speaks version 2 of the protocol, and this one 1") {
		t.Errorf("got %v", err)
	}
}

// A process of another user gets nothing, even where the directory lets it in, and gives
// nothing. The directory does not let it in.
func TestCaseB9AnotherUser(t *testing.T) {
	testenv.NeedRoot(t)
	dir, err := os.MkdirTemp("", "handover-") // that of the test is private
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	program := filepath.Join(dir, "program")
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(exe)
	if err == nil {
		err = os.WriteFile(program, data, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	sockets := filepath.Join(dir, "sockets")
	g := newGiver(Socket{Name: "a", Conn: listenTCP(t)})
	serve(t, sockets, g)
	run := func() string {
		cmd := exec.Command(program)
		cmd.Env = append(os.Environ(), strangerDir+"="+sockets)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return string(out)
	}
	if out := run(); !strings.Contains(out, "permission denied") || strings.Contains(out, "answer") {
		t.Errorf("in a private directory: %s", out)
	}
	entries, err := os.ReadDir(sockets)
	if err != nil || len(entries) != 1 {
		t.Fatal(entries, err)
	}
	if info, err := entries[0].Info(); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket's mode is %v, %v", info.Mode(), err)
	}
	if err := errors.Join(os.Chmod(sockets, 0o777), os.Chmod(filepath.Join(sockets, entries[0].Name()), 0o777)); err != nil {
		t.Fatal(err)
	}
	out := run()
	for _, want := range []string{"ask: the hand-over was refused: process ", "answer: the hand-over was refused: process ", "0 descriptors"} {
		if !strings.Contains(out, want) {
			t.Errorf("it says %q, and not %q", out, want)
		}
	}
	g.expect(t)
	if err := private(sockets); err != nil {
		t.Error(err)
	}
	if info, err := os.Stat(sockets); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the directory is open: %v, %v", info.Mode(), err)
	}
	if err := os.Chown(sockets, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	if _, err := Serve(sockets, g); err == nil {
		t.Error("it serves in another user's directory")
	}
}

// stranger asks all that serves in dir, as the package does, and without its checks.
func stranger(dir string) {
	_, err := Ask(context.Background(), dir, "it")
	fmt.Println("ask:", err)
	entries, err := os.ReadDir(dir)
	fmt.Println("list:", err)
	for _, e := range entries {
		c, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: filepath.Join(dir, e.Name()), Net: "unixpacket"})
		if err != nil {
			fmt.Println("dial:", err)
			continue
		}
		fmt.Fprint(c, `{"version":1,"do":"offer","want":"it"}`)
		buf, rights := make([]byte, maxMessage), make([]byte, 1000)
		n, rn, _, _, err := c.ReadMsgUnix(buf, rights)
		var m message
		if err == nil {
			err = json.Unmarshal(buf[:n], &m)
		}
		fds, _ := fdsOf(rights[:rn])
		fmt.Println("answer:", m.Error, err, len(fds), "descriptors")
		c.Close()
	}
}

// What dead processes left behind is removed, and stands in nobody's way.
func TestNobody(t *testing.T) {
	if _, err := Ask(t.Context(), filepath.Join(t.TempDir(), "none"), "it"); !errors.Is(err, ErrNone) {
		t.Errorf("got %v", err)
	}
	dir := t.TempDir()
	dead, remove, err := listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer remove()
	dead.Close()
	if _, err := Ask(t.Context(), dir, "it"); !errors.Is(err, ErrNone) {
		t.Errorf("got %v", err)
	}
	if files, _ := os.ReadDir(dir); len(files) != 0 {
		t.Errorf("left behind: %v", files)
	}
}

// All are asked to upgrade themselves, or one.
func TestUpgrade(t *testing.T) {
	dir := t.TempDir()
	if err := Upgrade(t.Context(), dir, 0, nil); !errors.Is(err, ErrNone) {
		t.Errorf("got %v", err)
	}
	bad := newGiver()
	bad.fail = errors.New("no such file")
	serve(t, dir, newGiver())
	serve(t, dir, bad)
	for _, pid := range []int{0, os.Getpid()} {
		var told []string
		if err := Upgrade(t.Context(), dir, pid, func(pid int, text string, err error) {
			told = append(told, fmt.Sprint(pid == os.Getpid(), text, err))
		}); err != nil {
			t.Error(err)
		}
		if got := strings.Join(told, ";"); len(told) != 2 || !strings.Contains(got, "trueupgraded<nil>") || !strings.Contains(got, "no such file") {
			t.Errorf("told %q", told)
		}
	}
	if err := Upgrade(t.Context(), dir, 1, nil); !errors.Is(err, ErrNone) {
		t.Errorf("got %v", err)
	}
}

// Whatever comes is understood or refused, and leaves no descriptor open.
func FuzzMessage(f *testing.F) {
	f.Add([]byte(`{"version":1,"do":"offer","want":"it"}`), []byte{})
	f.Add([]byte(`{"version":1,"names":["a"]}`), make([]byte, 24))
	f.Fuzz(func(t *testing.T, text, rights []byte) {
		_, _ = fdsOf(rights) // numbers that nobody sent: never to be used
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		fd, err := syscall.Dup(int(w.Fd()))
		w.Close()
		if err != nil {
			t.Fatal(err)
		}
		_, sockets, _ := read(text, []int{fd})
		closeAll(sockets)
		if n, err := r.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Errorf("the descriptor is open: %d, %v", n, err)
		}
	})
}
