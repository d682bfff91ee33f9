package lan

import "context"

// Role is library code that runs in a host, as a process of its own. Its context
// ends with SIGTERM or SIGINT. An error is printed and makes the exit status 1.
type Role func(ctx context.Context, args []string) error

// Roles are the roles of a test binary by name.
type Roles map[string]Role
