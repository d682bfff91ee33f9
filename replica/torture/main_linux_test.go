package torture

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/budgiehq/budgie/internal/isolation"
	"github.com/budgiehq/budgie/replica"
)

// The environment of a process that is one side of a copy.
const (
	roleEnv = "BUDGIE_TEST_ROLE"
	dirEnv  = "BUDGIE_TEST_DIR"
	linkEnv = "BUDGIE_TEST_LINK"
)

func TestMain(m *testing.M) {
	isolation.Isolate() // mounts, and loopback
	role := map[string]func(dir string) error{"send": send, "follow": follow}[os.Getenv(roleEnv)]
	if role == nil {
		goleak.VerifyTestMain(m)
		return
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(3) // the test is gone
	}()
	if err := role(os.Getenv(dirEnv)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
}

func logger() replica.Option {
	return replica.WithLogger(slog.New(slog.NewTextHandler(os.Stderr, nil)))
}

// send serves a directory to whoever connects, and prints where.
func send(dir string) error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(ln.Addr())
	c := replica.New(logger(), replica.RememberSources(dir+remembered))
	for {
		conn, err := ln.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			if _, err := c.Send(context.Background(), conn, dir); err != nil {
				fmt.Fprintln(os.Stderr, "send:", err)
			}
		}()
	}
}

// news is a line that a follower prints.
type news struct {
	State replica.FollowState
	// Err is why a connection ended.
	Err string
}

// keptAge and keptSize are how much a copy keeps of what its source replaced.
const (
	keptAge  = time.Hour
	keptSize = 16 << 20
)

// remembered is the suffix of where a sender remembers its source.
const remembered = ".remembered"

// reconnect is how soon a follower tries again.
const reconnect = 100 * time.Millisecond

// follow keeps a copy up to date, and prints its states.
func follow(dir string) error {
	out := bufio.NewWriter(os.Stdout)
	tell := func(n news) {
		line, err := json.Marshal(n)
		if err == nil {
			_, err = out.Write(append(line, '\n'))
		}
		if err = errors.Join(err, out.Flush()); err != nil {
			os.Exit(3)
		}
	}
	c := replica.New(logger(), replica.Remember(keptAge, keptSize), replica.WithMaxLoss(0))
	for {
		tell(news{Err: followOnce(c, dir, func(s replica.FollowState) { tell(news{State: s}) }).Error()})
		<-time.After(reconnect)
	}
}

func followOnce(c *replica.Copier, dir string, tell func(replica.FollowState)) error {
	conn, err := net.Dial("tcp", os.Getenv(linkEnv))
	if err != nil {
		return err
	}
	defer conn.Close()
	return c.Follow(context.Background(), conn, dir, replica.FollowOptions{Tell: tell})
}
