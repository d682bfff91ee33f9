package process

import (
	"errors"
	"os"
	goruntime "runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// After a reboot, or a time, the number of a process that has ended can be that of
// another one's thread. Then it is gone, as it is where nobody has the number.
func TestNumberOfAThread(t *testing.T) {
	threads, end := make(chan int), make(chan struct{})
	defer close(end)
	for {
		go func() {
			goruntime.LockOSThread() // so that the next one gets another thread
			defer goruntime.UnlockOSThread()
			threads <- unix.Gettid()
			<-end
		}()
		tid := <-threads
		if tid == os.Getpid() {
			continue // the first thread's number is the process's
		}
		h, err := openHandle(identity{PID: tid})
		if err == nil {
			_ = h.f.Close()
		}
		if !errors.Is(err, errGone) {
			t.Errorf("got %v", err)
		}
		return
	}
}
