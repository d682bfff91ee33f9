package replica_test

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/budgiehq/budgie/replica/replicatest"
)

// Nothing appears in a copy, or is done to its directory, when its owner is connected
// to again and nothing has changed.
func TestConnectingIsNotSeenInTheCopy(t *testing.T) {
	l := newLink(t, replicatest.Tree{"a": replicatest.F("a"), "dir": {}})
	l.start(t)
	l.equal(t)
	l.stop()
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	must(t, err)
	defer unix.Close(fd)
	_, err = unix.InotifyAddWatch(fd, l.dst, unix.IN_CREATE|unix.IN_DELETE|unix.IN_MOVE|unix.IN_ATTRIB|unix.IN_MODIFY)
	must(t, err)
	l.start(t)
	l.equal(t)
	buf := make([]byte, 4096)
	if n, err := unix.Read(fd, buf); !errors.Is(err, unix.EAGAIN) {
		t.Errorf("there were events in the copy: %q, %v", buf[:max(n, 0)], err)
	}
}
