package runtime

import "context"

// Inspector is a runtime that can tell the details of a container.
type Inspector interface {
	// Inspect returns what the runtime knows of a container in any state. It is
	// for people and for encoding/json, which makes an object of it; each
	// runtime documents the type that it returns. An unknown id gives
	// ErrNotFound.
	Inspect(ctx context.Context, id string) (any, error)
}
