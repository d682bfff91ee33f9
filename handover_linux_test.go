package budgie_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/budgiehq/budgie"
	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/runtime"
	"github.com/budgiehq/budgie/runtime/runtimetest"
)

// slowHandler answers "hello", and "/slow" not before release is closed, of which inside
// tells.
type slowHandler struct {
	inside  chan bool
	release chan bool
}

func newSlowHandler() slowHandler { return slowHandler{make(chan bool, 10), make(chan bool)} }

func (h slowHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/slow" {
		h.inside <- true
		<-h.release
	}
	io.WriteString(w, "hello")
}

// askOnce requests a page on a new connection in the background.
func askOnce(url string) <-chan error {
	c := make(chan error, 1)
	go func() {
		client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}
		resp, err := client.Get(url)
		if err == nil {
			if resp.StatusCode != http.StatusOK {
				err = errors.New(resp.Status)
			}
			resp.Body.Close()
		}
		c <- err
	}()
	return c
}

// hammer requests a page over and over until stop, by GET and POST, on new connections
// and kept-alive ones. What fails is an error of the test. asked counts the answers.
func hammer(t *testing.T, url string) (asked *atomic.Int64, stop func()) {
	t.Helper()
	asked = new(atomic.Int64)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			tr := &http.Transport{DisableKeepAlives: i%2 == 0, MaxIdleConnsPerHost: 1}
			defer tr.CloseIdleConnections()
			c := http.Client{Transport: tr, Timeout: 20 * time.Second}
			for ctx.Err() == nil {
				method := http.MethodGet
				if i%3 == 0 {
					method = http.MethodPost
				}
				req, err := http.NewRequest(method, url, strings.NewReader("x"))
				if err != nil {
					t.Error(err)
					return
				}
				resp, err := c.Do(req)
				if err != nil {
					t.Errorf("%s %s (kept alive: %t): %v", method, url, i%2 != 0, err)
					return
				}
				_, err = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				if err != nil || resp.StatusCode != http.StatusOK {
					t.Errorf("%s %s: status %d, %v", method, url, resp.StatusCode, err)
					return
				}
				asked.Add(1)
			}
		})
	}
	return asked, sync.OnceFunc(func() {
		cancel()
		wg.Wait()
	})
}

// answered waits until so many more requests were answered.
func answered(t *testing.T, asked *atomic.Int64, more int64) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	from := asked.Load()
	for end := time.Now().Add(20 * time.Second); asked.Load() < from+more; <-tick.C {
		if time.Now().After(end) || t.Failed() {
			t.Fatalf("%d requests were answered, not %d", asked.Load()-from, more)
		}
	}
}

func awaitReplaced(t *testing.T, c *budgie.Client) {
	t.Helper()
	select {
	case <-c.Replaced():
	case <-time.After(20 * time.Second):
		t.Fatal("the client is not told that it was replaced")
	}
}

// An address changes hands under load: what was under way at the one before ends there.
// Who was not told to take over does not get it, and who finds no replica does not
// either, while the one before has some.
func TestCaseB9BalanceIsTakenOver(t *testing.T) {
	h := newSlowHandler()
	f := newFakes(t, runtimetest.WithHandler(h))
	if _, err := f.Run(t.Context(), always(web("web"))); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	balancer := func(opts ...budgie.Option) *budgie.Client {
		n := newFakes(t)
		n.node = f.network.Join(netip.MustParseAddr("127.0.0.1"))
		return n.client(t, append(opts, budgie.WithDataDir(dir))...)
	}
	now := balancer(budgie.WithHandOver())
	front, err := now.Balance(t.Context(), "web", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	awaitBackends(t, front, 1)
	addr := front.Addr().String()
	asked, stop := hammer(t, "http://"+addr+"/")
	defer stop()
	slow := askOnce("http://" + addr + "/slow")
	<-h.inside

	if _, err := balancer().Balance(t.Context(), "web", addr); err == nil {
		t.Fatal("the address was taken over by one who was not to")
	}
	short, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := balancer(budgie.WithTakeOver()).Balance(short, "nothing-like-web", addr); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("without replicas: %v", err)
	}
	first, firstFront := now, front
	for range 3 {
		answered(t, asked, 50)
		next := balancer(budgie.WithHandOver(), budgie.WithTakeOver())
		nextFront, err := next.Balance(t.Context(), "web", addr)
		if err != nil {
			t.Fatal(err)
		}
		awaitReplaced(t, now)
		if now != first {
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			if err := front.Shutdown(ctx); err != nil {
				t.Errorf("shutdown: %v", err)
			}
			cancel()
		}
		now, front = next, nextFront
	}
	answered(t, asked, 50)
	stop()
	close(h.release)
	if err := <-slow; err != nil {
		t.Errorf("the request that was under way: %v", err)
	}
	if err := firstFront.Shutdown(t.Context()); err != nil {
		t.Errorf("shutdown: %v", err)
	}
}

// supervisors are clients that supervise the same containers.
type supervisors struct {
	*fakes
	dir string
	// failing makes the runtime's adoption fail.
	failing atomic.Bool
}

func newSupervisors(t *testing.T, h http.Handler) *supervisors {
	s := &supervisors{dir: t.TempDir()}
	s.fakes = newFakes(t, runtimetest.WithHandler(h), runtimetest.WithFault(func(op, _ string) error {
		if op == "adopt" && s.failing.Load() {
			return errors.New("no memory")
		}
		return nil
	}))
	return s
}

// supervise starts a client that supervises. ended has what its Supervise returned.
func (s *supervisors) supervise(t *testing.T, opts ...budgie.SuperviseOption) (c *budgie.Client, ended chan error) {
	t.Helper()
	return s.superviseOn(t, s.store, opts...)
}

func (s *supervisors) superviseOn(t *testing.T, on budgie.Store, opts ...budgie.SuperviseOption) (c *budgie.Client, ended chan error) {
	t.Helper()
	s.node = s.network.Join(netip.MustParseAddr("127.0.0.1"))
	c = s.client(t, budgie.WithDataDir(s.dir), budgie.WithHandOver(), budgie.WithStore(on))
	ended = make(chan error, 1)
	ctx := t.Context()
	go func() { ended <- c.Supervise(ctx, opts...) }()
	return c, ended
}

// runDetached runs a container under a supervisor that is there.
func (s *supervisors) runDetached(t *testing.T, spec bunfile.Spec) lifecycle.Container {
	t.Helper()
	rec, err := runDetached(t, s.Client, spec)
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

// A supervisor changes under load, several times; TCP and UDP ports are served all the
// time, and what is under way ends where it began.
func TestCaseB9SupervisorIsTakenOver(t *testing.T) {
	h := newSlowHandler()
	s := newSupervisors(t, h)
	now, ended := s.supervise(t, budgie.Resident())
	spec := web("web")
	spec.Ports = append(spec.Ports, bunfile.Port{ContainerPort: 53, Protocol: bunfile.UDP})
	rec := s.runDetached(t, always(spec))
	asked, stop := hammer(t, rec.URL())
	defer stop()
	slow := askOnce(rec.URL() + "/slow")
	<-h.inside
	udp, err := net.Dial("udp", fmt.Sprintf("127.0.0.1:%d", rec.Endpoints[1].Port))
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	echo := func() {
		t.Helper()
		udp.SetDeadline(time.Now().Add(10 * time.Second))
		fmt.Fprint(udp, "x")
		if _, err := udp.Read(make([]byte, 100)); err != nil {
			t.Errorf("UDP: %v", err)
		}
	}
	for i := range 3 {
		answered(t, asked, 50)
		echo()
		next, nextEnded := s.supervise(t, budgie.Resident(), budgie.TakingOver())
		awaitReplaced(t, now)
		if err := <-ended; !errors.Is(err, budgie.ErrReplaced) {
			t.Fatalf("the one before ended with %v", err)
		}
		echo()
		if i == 1 {
			closed := make(chan error, 1)
			go func() { closed <- now.Close() }()
			select {
			case err := <-closed:
				if err != nil {
					t.Error(err)
				}
			case <-time.After(20 * time.Second):
				t.Fatal("one that was replaced does not end")
			}
		}
		now, ended = next, nextEnded
	}
	answered(t, asked, 50)
	stop()
	close(h.release)
	if err := <-slow; err != nil {
		t.Errorf("the request that was under way: %v", err)
	}
	got, err := s.Get(t.Context(), rec.ID)
	if err != nil || got.Restarts != 0 || got.PID != rec.PID || fmt.Sprint(got.Endpoints) != fmt.Sprint(rec.Endpoints) {
		t.Errorf("the container is %+v, %v, was %+v", got, err, rec)
	}
	if err := s.Stop(t.Context(), rec.ID); err != nil {
		t.Errorf("the last supervisor does not stop it: %v", err)
	}
}

// Where a successor fails in the middle, the supervisor goes on, with everything.
func TestCaseB9SuccessorCannotAdopt(t *testing.T) {
	s := newSupervisors(t, newSlowHandler())
	now, ended := s.supervise(t, budgie.Resident())
	rec := s.runDetached(t, always(web("web")))
	asked, stop := hammer(t, rec.URL())
	defer stop()
	answered(t, asked, 20)
	s.failing.Store(true)
	s.node = s.network.Join()
	ctx, cancel := context.WithCancel(t.Context())
	next := s.client(t, budgie.WithDataDir(s.dir), budgie.WithHandOver())
	failed := make(chan error, 1)
	go func() { failed <- next.Supervise(ctx, budgie.TakingOver()) }()
	answered(t, asked, 200) // while it tries
	cancel()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Errorf("the successor ended with %v", err)
	}
	s.failing.Store(false)
	answered(t, asked, 50)
	if err := next.Close(); err != nil {
		t.Error(err)
	}
	stop()
	// It supervises: what ended is started again, and what is new is taken on.
	if err := s.runtime.Crash(rec.ID, 1); err != nil {
		t.Fatal(err)
	}
	other := s.runDetached(t, web("other"))
	if got := fetch(t, other.URL()); got != "hello" {
		t.Errorf("got %q", got)
	}
	select {
	case <-now.Replaced():
		t.Error("the supervisor says that it was replaced")
	case err := <-ended:
		t.Errorf("the supervisor ended: %v", err)
	default:
	}
}

// Containers that a program runs itself go on under another one, with their log, and the
// first program can close its client without ending them.
func TestCaseB9OwnContainersAreTakenOver(t *testing.T) {
	s := newSupervisors(t, newSlowHandler())
	open := func() *budgie.Client {
		s.node = s.network.Join()
		return s.client(t, budgie.WithDataDir(s.dir), budgie.WithHandOver())
	}
	first := open()
	rec, err := first.Run(t.Context(), web("web"))
	if err != nil {
		t.Fatal(err)
	}
	other, err := first.Run(t.Context(), web("other"))
	if err != nil {
		t.Fatal(err)
	}
	asked, stop := hammer(t, rec.URL())
	defer stop()
	if _, err := open().TakeOver(t.Context(), "nobody"); !errors.Is(err, budgie.ErrNotFound) {
		t.Errorf("of one that is not there: %v", err)
	}
	now := first
	var log atomic.Value
	for range 3 {
		answered(t, asked, 50)
		next := open()
		recs, err := next.TakeOver(t.Context(), "web", budgie.OnLog(func(_ lifecycle.Container, e runtime.LogEntry) { log.Store(e.Line) }))
		if err != nil || len(recs) != 2 {
			t.Fatalf("%d containers, %v", len(recs), err)
		}
		awaitReplaced(t, now)
		if err := now.Close(); err != nil {
			t.Error(err)
		}
		now = next
	}
	answered(t, asked, 50)
	stop()
	if err := s.runtime.Log(rec.ID, "after all"); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); log.Load() != "after all"; {
		if time.Now().After(end) {
			t.Fatalf("the log's last line is %v", log.Load())
		}
	}
	if err := now.Close(); err != nil {
		t.Error(err)
	}
	for _, id := range []string{rec.ID, other.ID} {
		if st, err := s.runtime.Status(t.Context(), id); err != nil || st.State != lifecycle.Stopped {
			t.Errorf("after the last Close: %+v, %v", st, err)
		}
	}
	if files, err := os.ReadDir(filepath.Join(s.dir, "handover")); err != nil || len(files) != 0 {
		t.Errorf("left behind: %v, %v", files, err)
	}
}

// Where nobody has anything to give, taking over does nothing.
func TestTakeOverOfNothing(t *testing.T) {
	s := newSupervisors(t, newSlowHandler())
	c := s.client(t, budgie.WithTakeOver(), budgie.WithHandOver())
	if err := c.Supervise(t.Context(), budgie.TakingOver()); err != nil {
		t.Error(err)
	}
	front, err := c.Balance(t.Context(), "web", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if front.Addr() == nil {
		t.Error("it has no address")
	}
	if err := c.Upgrade(t.Context(), 1, nil); !errors.Is(err, budgie.ErrNotFound) {
		t.Errorf("upgrade: %v", err)
	}
	// A supervisor that does not hand over is left alone.
	s.node = s.network.Join()
	plain := s.client(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- plain.Supervise(ctx, budgie.Resident()) }()
	if _, err := runDetached(t, s.Client, web("web")); err != nil {
		t.Fatal(err)
	}
	if err := c.Supervise(t.Context(), budgie.TakingOver()); !errors.Is(err, budgie.ErrSupervised) {
		t.Errorf("got %v", err)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// What a supervisor that was replaced has under way delays the stop by its successor, not
// its grace.
func TestStopWaitsForWhatTheFormerSupervisorHas(t *testing.T) {
	h := newSlowHandler()
	release := sync.OnceFunc(func() { close(h.release) })
	defer release()
	s := newSupervisors(t, h)
	former, _ := s.supervise(t, budgie.Resident())
	rec := s.runDetached(t, always(web("web")))
	slow := askOnce(rec.URL() + "/slow")
	<-h.inside
	s.supervise(t, budgie.Resident(), budgie.TakingOver())
	awaitReplaced(t, former)
	stopped := make(chan error, 1)
	go func() { stopped <- s.Stop(t.Context(), rec.ID) }()
	eventually(t, s.Client, rec.ID, "the wish to stop", func(r lifecycle.Container) bool { return r.Desired == lifecycle.WantStopped })
	select {
	case err := <-stopped:
		t.Fatalf("it is stopped under a request, %v", err)
	case <-time.After(500 * time.Millisecond):
	}
	release()
	if err := <-slow; err != nil {
		t.Errorf("the request that was under way: %v", err)
	}
	begin := time.Now()
	if err := <-stopped; err != nil || time.Since(begin) > 5*time.Second {
		t.Errorf("it is stopped after %v, %v", time.Since(begin), err)
	}
}
