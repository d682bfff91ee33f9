package discovery

import (
	"cmp"
	"context"
	"maps"
	"slices"
)

// Collect receives events until the channel closes or ctx ends, and returns the
// services that are there then, sorted by name and then ID. Where both a
// waiting event and the end of ctx are there, either may win.
func Collect(ctx context.Context, events <-chan Event) []Service {
	present := make(map[string]Service)
	for open := true; open; {
		var e Event
		select {
		case e, open = <-events:
		case <-ctx.Done():
			open = false
			continue
		}
		switch {
		case !open:
		case e.Type == Removed:
			delete(present, e.Service.ID)
		default:
			present[e.Service.ID] = e.Service
		}
	}
	return slices.SortedFunc(maps.Values(present), func(a, b Service) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID))
	})
}
