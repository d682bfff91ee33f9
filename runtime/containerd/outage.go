//go:build linux

package containerd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/containerd/containerd/api/services/version/v1"
	"github.com/containerd/errdefs"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
)

// answerPatience is how long containerd may take to answer a call before it is
// asked whether it lives, and then how long it may take to answer that.
const answerPatience = 15 * time.Second

// endPatience is how long what was killed may take to end.
const endPatience = 30 * time.Second

// errSilent: containerd took a call and does not answer.
var errSilent = status.Error(codes.Unavailable, "no answer")

// The calls that are not watched: the end of a task may take for ever, and the
// question whether containerd lives is what watching is.
var unwatched = map[string]bool{
	"/containerd.services.tasks.v1.Tasks/Wait":        true,
	"/containerd.services.version.v1.Version/Version": true,
}

// watchCalls gives up calls that a containerd which hangs would never answer.
// One that works on something long answers other questions meanwhile.
func (r *Runtime) watchCalls(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, call grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if unwatched[method] {
		return call(ctx, method, req, reply, conn, opts...)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		if !r.answers(conn, done) {
			cancel(errSilent)
		}
	})
	err := call(ctx, method, req, reply, conn, opts...)
	close(done)
	wg.Wait()
	if err != nil && errors.Is(context.Cause(ctx), errSilent) {
		operationOf(ctx).silent.Store(true) // containerd's client keeps no more than the code
		return errSilent
	}
	return err
}

// answers returns true when done is closed, and false as soon as containerd is
// found not to answer.
func (r *Runtime) answers(conn *grpc.ClientConn, done <-chan struct{}) bool {
	ctx, cancel := context.WithCancel(r.ctx)
	defer cancel()
	tick := time.NewTicker(r.answerPatience)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return true
		case <-tick.C:
		}
		answer := make(chan error, 1)
		go func() {
			_, err := version.NewVersionClient(conn).Version(ctx, &emptypb.Empty{})
			answer <- err
		}()
		late := time.NewTimer(r.answerPatience)
		select {
		case <-done:
		case <-answer: // an error of a lost connection is the call's, too
			late.Stop()
			continue
		case <-late.C:
		}
		late.Stop()
		cancel()
		<-answer
		select {
		case <-done:
			return true
		default:
			return false
		}
	}
}

// awaken makes a lost connection be tried again now. gRPC itself waits longer
// the longer containerd was away.
func (r *Runtime) awaken(ctx context.Context, conn any) error {
	cc, ok := conn.(*grpc.ClientConn)
	if !ok || cc.GetState() != connectivity.TransientFailure {
		return nil
	}
	if err := reach(ctx, r.address); err != nil {
		return err
	}
	cc.ResetConnectBackoff()
	ctx, cancel := context.WithTimeout(ctx, r.answerPatience)
	defer cancel()
	cc.WaitForStateChange(ctx, connectivity.TransientFailure)
	return nil // where it is not there after all, the next call says so
}

// remains reports whether containerd found the directory of a snapshot there already:
// it was killed before it had written down that it made it. It has removed that then, so
// that the next attempt succeeds. Its errors come as text.
func remains(err error) bool {
	return err != nil && strings.Contains(err.Error(), "failed to rename: rename ") && strings.Contains(err.Error(), ": "+syscall.EEXIST.Error())
}

// explainOutage says what to do about an error that comes from the absence of
// containerd, or from its having been killed.
func (r *Runtime) explainOutage(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if remains(err) {
		return fmt.Errorf("containerd was killed while it made a snapshot, and has only now removed what it left; try again: %w", err)
	}
	if !errdefs.IsUnavailable(err) {
		return err
	}
	if operationOf(ctx).silent.Load() || mute(err) {
		return fmt.Errorf("containerd at %s does not answer; containers run on meanwhile: see \"systemctl status containerd\", and restart it with \"sudo systemctl restart containerd\" (%w)", r.address, err)
	}
	ctx, cancel := afterwards(ctx)
	defer cancel()
	if rerr := reach(ctx, r.address); rerr != nil {
		return fmt.Errorf("%w (%w)", rerr, err)
	}
	return fmt.Errorf("containerd at %s was away for a moment; try again: %w", r.address, err)
}

// mute reports whether somebody took the connection and did not begin to speak,
// until gRPC closed it. That is a text of gRPC's alone, which containerd's client
// waits 10 s for.
func mute(err error) bool {
	text := err.Error()
	return strings.Contains(text, "error reading server preface") && strings.Contains(text, net.ErrClosed.Error())
}

// errShimSilent: containerd 1.6 says of a task whose shim does not answer that its
// state is unknown, that of 2 how long it waited.
var errShimSilent = fmt.Errorf("no answer from the shim: %w", context.DeadlineExceeded)

// explainShim says what to do about a call of which the time was over, while ctx was
// not: containerd waits for the container's shim. It may say so by text alone.
func explainShim(ctx context.Context, id string, err error) error {
	if err == nil || ctx.Err() != nil || !errdefs.IsDeadlineExceeded(err) && !strings.Contains(err.Error(), context.DeadlineExceeded.Error()) {
		return err
	}
	return fmt.Errorf("the container's shim, which stands between containerd and it, does not answer; the container runs on meanwhile: see whether it is stopped with \"ps -eo pid,stat,args | grep shim.*%.12s\", and if it hangs, kill it, which ends the container (%w)", id, err)
}

// insist calls f until containerd is there to answer, or the Runtime is closed.
// f's context is ctx with a time limit of its own.
func (r *Runtime) insist(ctx context.Context, f func(ctx context.Context) error) error {
	for {
		actx, cancel := afterwards(ctx)
		err := f(actx)
		cancel()
		if err == nil || !errdefs.IsUnavailable(err) || r.ctx.Err() != nil {
			return err
		}
		r.reconnect(r.ctx)
	}
}

// reconnect waits a moment, and then has a lost connection tried again.
// Containerd has no event for its return.
func (r *Runtime) reconnect(ctx context.Context) {
	pause(ctx, reconnectEvery)
	_, _ = r.client(ctx) // an error is that of the next call, too
}

// pause waits for d or the end of ctx.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// stuck is the error of something that was killed and does not end.
func (r *Runtime) stuck(ctx context.Context) error {
	if err := reach(ctx, r.address); err != nil {
		return err
	}
	return fmt.Errorf("it did not end within %v of being killed: a process may wait for a disk or a file system that does not answer", r.endPatience)
}
