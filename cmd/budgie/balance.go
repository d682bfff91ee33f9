package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/budgiehq/budgie"
	"github.com/budgiehq/budgie/balance"
	"github.com/budgiehq/budgie/balance/accesslog"
	"github.com/budgiehq/budgie/bunfile"
)

// balanceFlags are the flags of chirp that are for balancing.
type balanceFlags struct {
	addr, algorithm, hash, mode, protocol, accessLog string
	slowStart                                        *seconds
	takeOver                                         bool
}

// balanceFlagNames are those that go with -balance.
var balanceFlagNames = []string{"algorithm", "hash", "mode", "protocol", "access-log", "slow-start", "take-over"}

func newBalanceFlags(fs *flag.FlagSet) *balanceFlags {
	f := new(balanceFlags)
	fs.StringVar(&f.addr, "balance", "", "balance: serve this `address`, such as :8080, with the replicas of ID or NAME, and run none here")
	fs.StringVar(&f.algorithm, "algorithm", string(bunfile.RoundRobin), "balance: `algorithm`: "+algorithmNames())
	fs.StringVar(&f.hash, "hash", "", "balance: what requests have in common that go to one replica by consistent-hash: header=`NAME` or cookie=NAME (default the client's address)")
	fs.StringVar(&f.mode, "mode", string(bunfile.ModeHTTP), "balance: `mode`, http, tcp or udp, which is an address of UDP and the UDP ports of the replicas")
	fs.StringVar(&f.protocol, "protocol", string(bunfile.ProtocolAuto), "balance: what replicas are spoken to by in mode http: the `protocol` auto, which is HTTP/1.1 and for gRPC h2c, or h2c")
	fs.StringVar(&f.accessLog, "access-log", "", "balance: print a line for each request, connection or UDP session, in the `format` text or json")
	f.slowStart = secondsFlag(fs, "slow-start", "balance: how long it takes until a new replica gets its full share (a `time`; default 0s)")
	fs.BoolVar(&f.takeOver, "take-over", false, "balance: take the address over from a command like this that serves it, if one does, without a connection refused (Linux)")
	return f
}

// hashOf returns what -hash means.
func hashOf(word string) (bunfile.Hash, error) {
	if word == "" {
		return bunfile.Hash{}, nil
	}
	switch kind, name, _ := strings.Cut(word, "="); {
	case kind == "header" && name != "":
		return bunfile.Hash{Header: name}, nil
	case kind == "cookie" && name != "":
		return bunfile.Hash{Cookie: name}, nil
	}
	return bunfile.Hash{}, fmt.Errorf("-hash is header=NAME or cookie=NAME, not %q", word)
}

// algorithmNames lists what -algorithm takes.
func algorithmNames() string {
	var names []string
	for _, a := range bunfile.Algorithms() {
		names = append(names, string(a))
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " or " + names[last]
}

// check says which flags are not valid, or do not go together.
func (f *balanceFlags) check() error {
	switch mode := bunfile.BalanceMode(f.mode); {
	case !slices.Contains(bunfile.Algorithms(), bunfile.Algorithm(f.algorithm)):
		return fmt.Errorf("-algorithm is %s, not %q", algorithmNames(), f.algorithm)
	case mode != bunfile.ModeHTTP && mode != bunfile.ModeTCP && mode != balance.ModeUDP:
		return fmt.Errorf("-mode is http, tcp or udp, not %q", f.mode)
	case f.hash != "" && f.algorithm != string(bunfile.ConsistentHash):
		return fmt.Errorf("-hash needs -algorithm %s", bunfile.ConsistentHash)
	case f.hash != "" && mode != bunfile.ModeHTTP:
		return fmt.Errorf("-hash needs -mode http: in mode %s there are neither headers nor cookies, and %s goes by the client's address", mode, bunfile.ConsistentHash)
	case f.protocol != string(bunfile.ProtocolAuto) && mode != bunfile.ModeHTTP:
		return fmt.Errorf("-protocol needs -mode http")
	case f.slowStart.value < 0:
		return fmt.Errorf("-slow-start is a time from 0s on, not %s", f.slowStart)
	}
	if _, _, err := net.SplitHostPort(f.addr); err != nil {
		return fmt.Errorf("-balance is an address to serve, such as :8080 or 127.0.0.1:8080, not %q", f.addr)
	}
	return nil
}

// newAccessLog returns what prints a line for each request, nil where none is
// wanted.
func (a *app) newAccessLog(format string) (*accesslog.Log, error) {
	switch format {
	case "":
		return nil, nil
	case "text":
		return accesslog.New(slog.NewTextHandler(a.stdout, nil)), nil
	case "json":
		return accesslog.New(slog.NewJSONHandler(a.stdout, nil)), nil
	}
	return nil, fmt.Errorf("-access-log is text or json, not %q", format)
}

// noReplicaNotice is how long the first replica may take to be found before a person
// hears that there is none: the name may be wrong.
const noReplicaNotice = 3 * time.Second

// balance serves an address with the replicas of a service until ctx ends.
func (c *command) balance(ctx context.Context, a *app, fs *flag.FlagSet, f *balanceFlags, peers, args []string) error {
	mode := bunfile.BalanceMode(f.mode)
	if name := firstSet(fs, append(joinFlagNames, "timeout", "format")...); name != "" {
		return c.usagef("-%s does not go with -balance", name)
	}
	if len(args) != 1 || args[0] == "" {
		return c.usagef("-balance needs one ID or NAME")
	}
	hash, err := hashOf(f.hash)
	if err := errors.Join(err, f.check()); err != nil {
		return c.usagef("%v", err)
	}
	access, err := a.newAccessLog(f.accessLog)
	if err != nil {
		return c.usagef("%v", err)
	}
	upgrader := a.newUpgrader(c.name, true)
	opts := []budgie.Option{budgie.WithPeers(peers...), upgrader.option()}
	if f.takeOver {
		opts = append(opts, budgie.WithTakeOver())
	}
	if access != nil {
		defer access.Close()
		opts = append(opts, budgie.WithObserver(access))
	}
	return upgrader.await(ctx, a.withClient(slog.LevelInfo, func(client *budgie.Client) error {
		// Its Shutdown is the end of ctx.
		front, err := client.Balance(context.WithoutCancel(ctx), args[0], f.addr, budgie.WithAlgorithm(bunfile.Algorithm(f.algorithm)), budgie.WithHash(hash),
			budgie.WithMode(mode), budgie.WithProtocol(bunfile.BackendProtocol(f.protocol)), budgie.WithSlowStart(f.slowStart.value))
		if err != nil {
			return err
		}
		fmt.Fprintln(a.stderr, printable(fmt.Sprintf("serving %s at %s, until interrupted", args[0], addrWord(front, mode))))
		defer upgrader.serve(ctx, client)()
		a.serveUntilEnd(ctx, client, front, missing(args[0], mode))
		drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), bunfile.DefaultStopTimeout)
		defer cancel()
		if err := front.Shutdown(drain); !errors.Is(err, context.DeadlineExceeded) {
			return err
		}
		return nil // the log says that connections were cut off, and it has ended as it should
	}, opts...))
}

// addrWord is where a frontend serves, as "budgie ps" writes it.
func addrWord(front balance.Frontend, mode bunfile.BalanceMode) string {
	word := front.Addr().String()
	if mode == balance.ModeUDP {
		word += "/udp"
	}
	return word
}

// missing says that no replica of a service is found, and what clients see of that.
func missing(service string, mode bunfile.BalanceMode) string {
	port, meanwhile := "", "requests get status 503"
	switch mode {
	case bunfile.ModeTCP:
		meanwhile = "connections are closed"
	case balance.ModeUDP:
		port, meanwhile = " with a UDP port", "datagrams are dropped"
	}
	return fmt.Sprintf("no replica of %s%s is found so far: %s until one is; \"budgie chirp\" lists what is announced", service, port, meanwhile)
}

// serveUntilEnd returns when ctx ends or another process has taken client's place. It
// gives the notice when no replica of the service is found.
func (a *app) serveUntilEnd(ctx context.Context, client *budgie.Client, front balance.Frontend, none string) {
	notice := time.NewTimer(noReplicaNotice)
	defer notice.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-client.Replaced():
			fmt.Fprintln(a.stderr, "budgie:", budgie.ErrReplaced)
			return
		case <-notice.C:
			if len(front.Status()) == 0 {
				a.note("%s", none)
			}
		}
	}
}
