package main

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

func TestSteps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s steps
		for _, part := range []string{"join", "ing web: web:1\n  replica 1\n", "web: 10 MiB of 20 MiB\nweb: pul", "led web:1, 20 MiB, in 2s\n", "id\n"} {
			if _, ok := s.fetch(); ok {
				if part == "id\n" {
					break
				}
				t.Errorf("before %q the image is there", part)
			}
			fmt.Fprint(&s, part)
			<-time.After(time.Second)
		}
		if d, ok := s.fetch(); !ok || d != 2*time.Second {
			t.Errorf("the image took %v, %t", d, ok)
		}
	})
}
