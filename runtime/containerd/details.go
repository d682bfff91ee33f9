package containerd

import (
	"time"

	"github.com/budgiehq/budgie/bunfile"
	"github.com/budgiehq/budgie/runtime"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// Details is what [Runtime.Inspect] returns.
type Details struct {
	// Address is containerd's socket, and Namespace where in containerd the
	// container is, under its id.
	Address   string `json:"address"`
	Namespace string `json:"namespace"`
	// Image is what the container was made of.
	Image ImageDetails `json:"image"`
	// Snapshot is what the container has written over its image.
	Snapshot SnapshotDetails `json:"snapshot"`
	// Network is how it is connected.
	Network NetworkDetails `json:"network"`
	// PID is the first process while the container runs.
	PID int `json:"pid,omitempty"`
	// StartedAt is the last start; zero if there was none.
	StartedAt time.Time `json:"started_at,omitzero"`
	// Supervised is true while a living program looks after the container.
	Supervised bool `json:"supervised"`
	// Dir is the container's directory, and LogDir the one with its log.
	Dir    string `json:"dir"`
	LogDir string `json:"log_dir"`
	// Labels are those of the containerd container.
	Labels map[string]string `json:"labels"`
	// Mounts are the volumes, and all else that is mounted in the container.
	Mounts []specs.Mount `json:"mounts"`
	// Spec is what the OCI runtime is told, the environment with all its secrets
	// included.
	Spec *specs.Spec `json:"oci_spec"`
}

// ImageDetails name an image.
type ImageDetails struct {
	// Name is the full reference, such as docker.io/library/nginx:latest.
	Name string `json:"name"`
	// Digest is that of the manifest or index that the name stood for when the
	// container was made. It is empty where that was not kept and the image is
	// not there any more.
	Digest string `json:"digest"`
}

// SnapshotDetails name a snapshot.
type SnapshotDetails struct {
	Snapshotter string `json:"snapshotter"`
	Key         string `json:"key"`
}

// NetworkDetails describe a container's network.
type NetworkDetails struct {
	// Mode is bridge, host or none.
	Mode bunfile.Network `json:"mode"`
	// Ports are where this machine reaches the container's ports while it runs.
	Ports []runtime.Address `json:"ports,omitempty"`
	// Address is the container's own IP address on the bridge, while it runs.
	Address string `json:"address,omitempty"`
	// Namespace is the path of its network namespace, which a container on the
	// bridge has while it runs.
	Namespace string `json:"namespace,omitempty"`
}
