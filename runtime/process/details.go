package process

import (
	"time"

	"github.com/budgiehq/budgie/runtime"
)

// Details is what [Runtime.Inspect] returns.
type Details struct {
	// Dir is the container's directory, Root the one below it in which its
	// volumes are and its command starts, and LogDir the one with its log.
	Dir    string `json:"dir"`
	Root   string `json:"root"`
	LogDir string `json:"log_dir"`
	// PID is the first process while the container runs, and Group its process
	// group and session. Processes are the process ids of all.
	PID       int   `json:"pid,omitempty"`
	Group     int   `json:"process_group,omitempty"`
	Processes []int `json:"processes,omitempty"`
	// Ports are where the container was told to listen while it runs.
	Ports []runtime.Address `json:"ports,omitempty"`
	// StartedAt is the last start; zero if there was none.
	StartedAt time.Time `json:"started_at,omitzero"`
	// Supervisor is the process that looks after the container, 0 where none
	// does.
	Supervisor int `json:"supervisor_pid,omitempty"`
}
