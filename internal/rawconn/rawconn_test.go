package rawconn

import (
	"crypto/tls"
	"errors"
	"net"
	"syscall"
	"testing"
)

// wrapped is a connection on another one, that counts its closes.
type wrapped struct {
	net.Conn
	closed int
}

func (w *wrapped) NetConn() net.Conn { return w.Conn }

func (w *wrapped) Close() error {
	w.closed++
	return w.Conn.Close()
}

// However deep the connection of TCP is, the other end sees a reset, and who wraps it
// that it is closed.
func TestReset(t *testing.T) {
	for name, wrap := range map[string]func(net.Conn) net.Conn{
		"bare":          func(c net.Conn) net.Conn { return c },
		"below TLS":     func(c net.Conn) net.Conn { return tls.Client(c, &tls.Config{InsecureSkipVerify: true}) },
		"below nothing": func(c net.Conn) net.Conn { return &wrapped{Conn: c} },
	} {
		t.Run(name, func(t *testing.T) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			here, err := net.Dial("tcp", ln.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			there, err := ln.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer there.Close()
			outer := &wrapped{Conn: wrap(here)}
			Reset(outer)
			if _, err := there.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the other end reads %v", err)
			}
			if outer.closed != 1 {
				t.Errorf("it was closed %d times", outer.closed)
			}
		})
	}
}
