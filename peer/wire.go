package peer

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"
	"unicode"

	"github.com/distribution/reference"

	"github.com/budgiehq/budgie/bunfile"
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
	// CreatedAt is when it was created, by the node's clock; zero where an older
	// version does not say.
	CreatedAt time.Time `json:"created_at,omitzero"`
	// Joining is true while a replica that joined has yet to find out whether the
	// service has room for it: it yields to those that are past that.
	Joining bool `json:"joining,omitempty"`
	// Restored is true for a replica that its node created since others were
	// missing: it steps back when there are enough again.
	Restored bool `json:"restored,omitempty"`
	// Yields is true for a replica that its node ends where there are more than
	// MaxReplicas, if it is one of those that were created last; false where an older
	// version does not say.
	Yields bool `json:"yields,omitempty"`
	// MinReplicas and MaxReplicas are how many replicas of the service its
	// specification wants and allows; 0 where it does not say, or an older version
	// does not.
	MinReplicas int `json:"min_replicas,omitempty"`
	MaxReplicas int `json:"max_replicas,omitempty"`
	// Weight is its share of the traffic in proportion to those of the others, for
	// balancers that go by it; 0 where an older version does not say, which counts
	// as 1.
	Weight int `json:"weight,omitempty"`
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
	// VolumesTerm is the term in which the node owns the service's volumes, 0
	// where it does not: see [lifecycle.Container.VolumesTerm].
	VolumesTerm uint64 `json:"volumes_term,omitempty"`
	// Volumes says how far its copies of the service's volumes are behind. Paths
	// of the node are not in it.
	Volumes []lifecycle.VolumeSync `json:"volumes,omitempty"`
}

// Hosting is what a node tells others of its being a host: one that runs replicas
// of services that have too few.
type Hosting struct {
	// Commands is true where it runs commands of the machine too, not only images.
	Commands bool `json:"commands,omitempty"`
	// Joining are the ids of the services of which it is about to have a replica,
	// and Unable those of which it cannot have one.
	Joining []string `json:"joining,omitempty"`
	Unable  []string `json:"unable,omitempty"`
}

// Told is all that a node tells of itself.
type Told struct {
	// Containers are the node's own.
	Containers []Container
	// Hosting is nil where the node is no host.
	Hosting *Hosting
}

// list is the JSON of what a node tells, and of a line of events. Without
// containers a line is no more than a sign of life.
type list struct {
	Containers *[]Container `json:"containers,omitempty"`
	Hosting    *Hosting     `json:"hosting,omitempty"`
}

// encodeList returns the JSON of what a node tells, with a newline at the end.
func encodeList(told Told) ([]byte, error) {
	if told.Containers == nil {
		told.Containers = []Container{}
	}
	data, err := json.Marshal(list{&told.Containers, told.Hosting})
	if err == nil && len(data) >= maxList {
		err = fmt.Errorf("the list of %d containers has %d bytes, and no more than %d are sent", len(told.Containers), len(data), maxList)
	}
	return append(data, '\n'), err
}

// decodeList reads what encodeList of a node wrote. ok is false where there is
// no list in it. Members that this version does not know are left aside, as a
// later one may have them; those that it knows must be right.
func decodeList(data []byte, node string) (told Told, ok bool, err error) {
	var l list
	if err := json.Unmarshal(data, &l); err != nil {
		return Told{}, false, fmt.Errorf("%w: containers: %w", ErrInvalid, err)
	}
	if l.Containers == nil {
		return Told{}, false, nil
	}
	containers := *l.Containers
	if len(containers) > mostContainers {
		return Told{}, false, fmt.Errorf("%w: %d containers, and no more than %d are taken", ErrInvalid, len(containers), mostContainers)
	}
	if err := l.Hosting.check(); err != nil {
		return Told{}, false, fmt.Errorf("%w: hosting: %w", ErrInvalid, err)
	}
	seen := make(map[string]bool, len(containers))
	for i, c := range containers {
		err := c.check()
		switch {
		case err == nil && c.Node != node:
			err = errors.New("it is of another node than the one that tells of it")
		case err == nil && seen[c.ID]:
			err = errors.New("it is there twice")
		}
		if err != nil {
			return Told{}, false, fmt.Errorf("%w: container %d (%s): %w", ErrInvalid, i, plain(c.ID, 12), err)
		}
		seen[c.ID] = true
	}
	return Told{containers, l.Hosting}, true, nil
}

// mostHosted is how many services a host may name as those that it is about to run,
// or cannot.
const mostHosted = 256

// check says what is wrong with what a host tells, nil for none.
func (h *Hosting) check() error {
	if h == nil {
		return nil
	}
	for _, ids := range [][]string{h.Joining, h.Unable} {
		if len(ids) > mostHosted {
			return fmt.Errorf("%d services, and no more than %d are taken", len(ids), mostHosted)
		}
		for _, id := range ids {
			if !isID(id) {
				return errors.New("services: want 64 hexadecimal characters")
			}
		}
	}
	return nil
}

// check says what is wrong with a container, without repeating it.
func (c Container) check() error {
	switch {
	case !isID(c.ID):
		return errors.New("id: want 64 hexadecimal characters")
	case !isID(c.ServiceID):
		return errors.New("service_id: want 64 hexadecimal characters")
	case !isLabel(c.Name):
		return errors.New("name: want a DNS label")
	case !isID(c.Node):
		return errors.New("node: want 64 hexadecimal characters")
	case !isWord(c.Runtime):
		return errors.New("runtime: want up to 64 letters, digits and -._")
	case c.Image != "" && !isReference(c.Image):
		return errors.New("image: want an image reference")
	case c.ImageDigest != "" && !isDigest(c.ImageDigest):
		return errors.New("image_digest: want sha256: and 64 hexadecimal characters")
	case c.MinReplicas < 0 || c.MaxReplicas < 0:
		return errors.New("min_replicas, max_replicas: a number is negative")
	case c.Weight < 0 || c.Weight > bunfile.MaxWeight:
		return fmt.Errorf("weight: want 0 to %d", bunfile.MaxWeight)
	case len(c.Endpoints) > mostEndpoints:
		return fmt.Errorf("endpoints: %d, and no more than %d are taken", len(c.Endpoints), mostEndpoints)
	}
	switch c.State {
	case lifecycle.Creating, lifecycle.Created, lifecycle.Running, lifecycle.Stopped:
	default:
		return errors.New("state: not one of a container")
	}
	switch c.Health {
	case lifecycle.HealthNone, lifecycle.HealthStarting, lifecycle.Healthy, lifecycle.Unhealthy:
	default:
		return errors.New("health: not one of a container")
	}
	for _, e := range c.Endpoints {
		if err := checkEndpoint(e); err != nil {
			return err
		}
	}
	return checkVolumes(c.Volumes)
}

// The most that is taken of what a node says of its volumes: how many, and how
// long the reason of one.
const (
	mostVolumes = 64
	mostReason  = 2048
)

func checkVolumes(volumes []lifecycle.VolumeSync) error {
	if len(volumes) > mostVolumes {
		return fmt.Errorf("volumes: %d, and no more than %d are taken", len(volumes), mostVolumes)
	}
	for i, v := range volumes {
		switch {
		case !strings.HasPrefix(v.Target, "/") || len(v.Target) > 4096 || plain(v.Target, 4096) != v.Target:
			return errors.New("volumes: want an absolute path as the target")
		case v.Node != "" && !isID(v.Node):
			return errors.New("volumes: node: want 64 hexadecimal characters")
		case !isPhase(v.Phase):
			return errors.New("volumes: phase: not one of a copy")
		case v.Held != "" && !isDigest(v.Held):
			return errors.New("volumes: held: want sha256: and 64 hexadecimal characters")
		case v.PendingFiles < 0 || v.PendingBytes < 0 || v.Conflicts < 0:
			return errors.New("volumes: a number is negative")
		}
		volumes[i].Reason, volumes[i].NotKept, volumes[i].Kept = plain(v.Reason, mostReason), plain(v.NotKept, mostReason), ""
	}
	return nil
}

func isPhase(p lifecycle.SyncPhase) bool {
	switch p {
	case lifecycle.SyncStarting, lifecycle.Synced, lifecycle.Syncing, lifecycle.SyncSuspended, lifecycle.SyncSuperseded, lifecycle.SyncCut:
		return true
	}
	return false
}

func checkEndpoint(e lifecycle.Endpoint) error {
	if e.ContainerPort < 1 || e.ContainerPort > 65535 || e.Port < 1 || e.Port > 65535 {
		return errors.New("endpoints: want ports from 1 to 65535")
	}
	if e.Protocol != bunfile.TCP && e.Protocol != bunfile.UDP {
		return errors.New("endpoints: want the protocol tcp or udp")
	}
	if e.Host != "" {
		if _, err := netip.ParseAddr(e.Host); err != nil || len(e.Host) > 64 {
			return errors.New("endpoints: want a literal address as the host")
		}
	}
	return nil
}

const hexDigits = "0123456789abcdef"

// consists reports whether s has from 1 to most characters, all of a set.
func consists(s, set string, most int) bool {
	return s != "" && len(s) <= most && strings.IndexFunc(s, func(r rune) bool { return !strings.ContainsRune(set, r) }) < 0
}

// isID reports whether s has the form of a container's or a node's id.
func isID(s string) bool { return len(s) == 64 && consists(s, hexDigits, 64) }

// isDigest reports whether s is a digest of the one algorithm that is used.
func isDigest(s string) bool {
	hex, ok := strings.CutPrefix(s, "sha256:")
	return ok && isID(hex)
}

const lowerAndDigits = "abcdefghijklmnopqrstuvwxyz0123456789"

// isLabel reports whether s is a DNS label as names of containers are.
func isLabel(s string) bool {
	return consists(s, lowerAndDigits+"-", 63) && s[0] != '-' && s[len(s)-1] != '-'
}

// isWord reports whether s may be the name of a runtime.
func isWord(s string) bool {
	return consists(s, lowerAndDigits+"ABCDEFGHIJKLMNOPQRSTUVWXYZ-._", 64)
}

// isReference reports whether s is an image reference as specifications have
// them.
func isReference(s string) bool {
	if len(s) > maxReference {
		return false
	}
	_, err := reference.ParseNormalizedNamed(s)
	return err == nil
}

// plain makes text from elsewhere fit to be shown: no control characters, and
// no more than most characters.
func plain(s string, most int) string {
	var b strings.Builder
	for _, r := range s {
		if most--; most < 0 {
			b.WriteString("…")
			break
		}
		if !unicode.IsPrint(r) {
			r = '\uFFFD'
		}
		b.WriteRune(r)
	}
	return b.String()
}
