//go:build unix

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// askEvery is how often each client of the ask role asks, whatever is answered.
const askEvery = 100 * time.Millisecond

// askRole has clients ask by UDP without pause, each from a port of its own. On standard
// input it is told "more NAME N ADDR", which begins N more, and "end". It prints
// "answered CLIENT BY WHEN" where another machine answers a client than before, and at
// the end "longest CLIENT TIME": how long it was without an answer. CLIENT is NAME/number,
// the number of it among all.
func askRole(ctx context.Context, _ []string) error {
	ctx, cancel := context.WithCancel(ctx)
	var asking sync.WaitGroup
	defer asking.Wait()
	defer cancel()
	number := 0
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		word := strings.Fields(lines.Text())
		if len(word) == 1 && word[0] == "end" {
			return nil
		}
		if len(word) != 4 || word[0] != "more" {
			return fmt.Errorf("what is %q?", lines.Text())
		}
		n, err := strconv.Atoi(word[2])
		if err != nil {
			return err
		}
		for range n {
			conn, err := net.Dial("udp", word[3])
			if err != nil {
				return err
			}
			number++
			client := fmt.Sprintf("%s/%d", word[1], number)
			asking.Go(func() { keepAsking(ctx, client, conn) })
		}
	}
	return errors.New("nobody said what to do")
}

// keepAsking is one client, until ctx ends.
func keepAsking(ctx context.Context, client string, conn net.Conn) {
	var asking sync.WaitGroup
	defer asking.Wait()
	asking.Go(func() {
		defer conn.Close()
		tick := time.NewTicker(askEvery)
		defer tick.Stop()
		for ctx.Err() == nil {
			_, _ = conn.Write([]byte("where")) // UDP may lose it
			select {
			case <-tick.C:
			case <-ctx.Done():
			}
		}
	})
	var by string
	var longest time.Duration
	last := time.Now()
	for buf := make([]byte, 100); ; {
		n, err := conn.Read(buf)
		if errors.Is(err, net.ErrClosed) {
			fmt.Println("longest", client, max(longest, time.Since(last)))
			return
		}
		if err != nil {
			continue // nobody was there to take a question
		}
		now := time.Now()
		last, longest = now, max(longest, now.Sub(last))
		if is := string(bytes.TrimSuffix(buf[:n], []byte(" where"))); is != by {
			by = is
			fmt.Println("answered", client, by, now.UnixNano())
		}
	}
}
