package memory_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/store"
	"github.com/budgiehq/budgie/store/memory"
)

func Example() {
	ctx := context.Background()
	s := memory.New()
	defer s.Close()

	web, err := s.Put(ctx, lifecycle.Container{ID: "f1ee", Name: "web"})
	if err != nil {
		log.Fatal(err)
	}
	stale := web
	web.Restarts++
	if web, err = s.Put(ctx, web); err != nil {
		log.Fatal(err)
	}
	fmt.Println("revision:", web.Revision)

	_, err = s.Put(ctx, stale)
	fmt.Println("conflict:", errors.Is(err, store.ErrConflict))
	// Output:
	// revision: 2
	// conflict: true
}
