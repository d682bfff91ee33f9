package peer

import (
	"github.com/budgiehq/budgie/lifecycle"
)

// Container is what a node tells others of one of its containers.
type Container struct {
	// ID is the container's id, 64 hexadecimal characters.
	ID string `json:"id"`
	// ServiceID is shared by the replicas of a service. It has the form of an
	// id.
	ServiceID string `json:"service_id"`
	// Name is the container's name, a DNS label.
	Name string `json:"name"`
	// Node is the id of the node that runs it.
	Node string `json:"node"`
	// State is what the node last saw.
	State lifecycle.State `json:"state"`
	// Ready is true from the moment the container first served after its last
	// start until it ends.
	Ready bool `json:"ready,omitempty"`
	// Health is what the health check said last.
	Health lifecycle.Health `json:"health,omitempty"`
	// Image is the image reference; empty for a custom command.
	Image string `json:"image,omitempty"`
	// ImageDigest is the digest of the image; empty where its runtime has no
	// images.
	ImageDigest string `json:"image_digest,omitempty"`
	// Runtime is the name of the runtime that runs it.
	Runtime string `json:"runtime"`
	// Endpoints are the published ports. Their Host is as the node binds them:
	// a literal address, or empty for all of the node's.
	Endpoints []lifecycle.Endpoint `json:"endpoints,omitempty"`
}
