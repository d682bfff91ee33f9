package file_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"

	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/store"
	"github.com/budgiehq/budgie/store/file"
)

// Two values stand for two programs that share a data directory: one wants a
// container stopped, the other watches and sees to it.
func Example() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	dir, err := os.MkdirTemp("", "budgie")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	supervisor, err := file.Open(dir)
	if err != nil {
		log.Fatal(err)
	}
	defer supervisor.Close()
	changes, err := supervisor.Watch(ctx)
	if err != nil {
		log.Fatal(err)
	}

	program, err := file.Open(dir)
	if err != nil {
		log.Fatal(err)
	}
	defer program.Close()
	web, err := program.Put(ctx, lifecycle.Container{ID: "f1ee", Name: "web", Desired: lifecycle.WantRunning})
	if err != nil {
		log.Fatal(err)
	}
	_, err = store.Modify(ctx, program, web.ID, func(c *lifecycle.Container) error {
		c.Desired = lifecycle.WantStopped
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}

	for range changes {
		c, err := supervisor.Get(ctx, web.ID)
		if err == nil && c.Desired == lifecycle.WantStopped {
			fmt.Println(c.Name, "is to be", c.Desired)
			break
		}
	}
	// Output: web is to be stopped
}

func ExampleStore_Acquire() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "budgie")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	s, err := file.Open(dir)
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()

	release, err := s.Acquire(ctx, "supervisor")
	if err != nil {
		log.Fatal(err)
	}
	_, err = s.Acquire(ctx, "supervisor")
	fmt.Println("taken:", errors.Is(err, store.ErrOwned))
	if err := release(); err != nil {
		log.Fatal(err)
	}
	alive, err := s.Alive(ctx, "supervisor")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("alive:", alive)
	// Output:
	// taken: true
	// alive: false
}
