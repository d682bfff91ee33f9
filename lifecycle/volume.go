package lifecycle

import "time"

// SyncPhase is what the copy of a volume is doing.
type SyncPhase string

// The phases.
const (
	// SyncStarting: it is compared with its source for the first time.
	SyncStarting SyncPhase = "starting"
	// Synced: it is as its source.
	Synced SyncPhase = "synced"
	// Syncing: what changed is on its way.
	Syncing SyncPhase = "syncing"
	// SyncSuspended: it stays as it is, for the reason that is given.
	SyncSuspended SyncPhase = "suspended"
	// SyncSuperseded: this node owned the volume, and another one was made its
	// owner since. What is here stays as it is, and nobody follows it.
	SyncSuperseded SyncPhase = "superseded"
	// SyncCut: the owner of the volume does not answer, or the copy cannot be
	// written (see [VolumeSync].OwnerAnswers). It is tried again and again.
	SyncCut SyncPhase = "cut off"
)

// VolumeSync says how far the copy of a volume is behind its source. It is stored
// when the phase changes, and every few seconds while nothing does.
type VolumeSync struct {
	// Target is where the container sees the volume.
	Target string `json:"target"`
	// Node is the id of the node that owns it; empty while none is known.
	Node string `json:"node,omitempty"`
	// Term is the term in which that node owns it: see [Container.VolumesTerm].
	Term uint64 `json:"term,omitempty"`
	// OwnerAnswers says that this node is there; it is told where Phase is
	// SyncSuperseded or SyncCut, as else the phase says it.
	OwnerAnswers bool `json:"owner_answers,omitempty"`
	// Phase is what the copy is doing.
	Phase SyncPhase `json:"phase"`
	// SyncedAt is the last moment, by the clock of the copy's node, at which it
	// was as its source; zero where it never was.
	SyncedAt time.Time `json:"synced_at,omitzero"`
	// PendingFiles and PendingBytes are what is known to be on its way.
	PendingFiles int   `json:"pending_files,omitempty"`
	PendingBytes int64 `json:"pending_bytes,omitempty"`
	// Conflicts is how often something was found in the copy that its owner had
	// not brought there: what was still kept of that when the owner was last
	// connected to, and what was found since. Kept is where the last of that is, on
	// the copy's node.
	Conflicts int    `json:"conflicts,omitempty"`
	Kept      string `json:"kept,omitempty"`
	// Reason is why it is suspended or cut off, or what its owner cannot read.
	Reason string `json:"reason,omitempty"`
	// NotKept says in words what its owner has and the copy cannot keep; empty where
	// that is nothing.
	NotKept string `json:"not_kept,omitempty"`
	// Held identifies the content that waits for a person's consent; empty where
	// there is none.
	Held string `json:"held,omitempty"`
}
