package trust_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"

	"github.com/budgiehq/budgie/trust"
)

// Two machines share a token and talk. Here they keep nothing on disk; Open
// does.
func Example() {
	here, err := trust.New()
	if err != nil {
		log.Fatal(err)
	}
	defer here.Close()
	there, err := trust.New()
	if err != nil {
		log.Fatal(err)
	}
	defer there.Close()
	token, err := here.Token()
	if err != nil {
		log.Fatal(err)
	}
	// Somebody takes token.Reveal() to the other machine.
	if err := there.Set(token); err != nil {
		log.Fatal(err)
	}

	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer ln.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := here.Listener(ln).Accept()
		if err != nil {
			log.Fatal(err)
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "hello, member")
	}()

	raw, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	conn, err := there.Client(context.Background(), raw, here.NodeID())
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	text, err := io.ReadAll(conn)
	if err != nil {
		log.Fatal(trust.Explain(err))
	}
	<-done
	fmt.Println(string(text))
	fmt.Println(token)
	// Output:
	// hello, member
	// [token]
}
