//go:build !unix

package balance

import (
	"net"
	"sync"
)

// newUDPConn returns c as a udpConn.
func newUDPConn(c net.Conn, buffers *sync.Pool) udpConn { return &plainConn{c, buffers} }

// raiseDatagramSize has nothing to do here.
func raiseDatagramSize(*net.UDPConn) {}
