package freeport

import (
	"slices"
	"testing"

	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/runtime"
)

func TestEnvironment(t *testing.T) {
	got := Environment([]runtime.Address{
		{ContainerPort: 53, Protocol: bunfile.UDP, HostPort: "127.0.0.1:4000"},
		{ContainerPort: 80, Protocol: bunfile.TCP, HostPort: "127.0.0.1:4001"},
		{ContainerPort: 53, Protocol: bunfile.TCP, HostPort: "127.0.0.1:4002"},
		{ContainerPort: 123, Protocol: bunfile.UDP, HostPort: "[::1]:4003"},
	})
	want := []string{
		"BUDGIE_PORT_53_UDP=4000", "PORT=4001", "BUDGIE_PORT_80=4001", "BUDGIE_PORT_53=4002",
		"BUDGIE_PORT_123_UDP=4003", "BUDGIE_PORT_123=4003",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := Environment(nil); len(got) != 0 {
		t.Errorf("without ports there is %q", got)
	}
}
